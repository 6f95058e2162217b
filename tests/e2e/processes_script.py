"""A user's script that hands an extractor to other processes: forked, spawned and joblib's."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from thingsvision_client import DataLoader, Extractor, get_extractor, load_batches

MODULE = "features.12"


def features_of(extractor: Extractor, batches: DataLoader) -> Any:
    return extractor.extract_features(batches, MODULE, flatten_acts=True)


def keep_calling(extractor: Extractor, stop: threading.Event) -> None:
    while not stop.is_set():
        extractor.client.residency()


def main() -> None:
    server, photos, folder = sys.argv[1:]
    parameters = {"seed": 5}
    extractor = get_extractor(
        "squeezenet1_0", False, None, "torchvision", model_parameters=parameters, server=server
    )
    batches = load_batches(photos, folder, "pt", batch_size=2)
    found = {"here": features_of(extractor, batches)}
    stop = threading.Event()
    caller = threading.Thread(target=keep_calling, args=(extractor, stop))
    caller.start()  # calls that run while the process is forked
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            found[method] = pool.apply(features_of, (extractor, batches))
    stop.set()
    caller.join()
    jobs = [joblib.delayed(features_of)(extractor, batches)]
    (found["loky"],) = joblib.Parallel(n_jobs=2)(jobs)
    found["afterwards"] = features_of(extractor, batches)
    np.savez(Path(folder) / "found.npz", **found)


if __name__ == "__main__":
    main()
