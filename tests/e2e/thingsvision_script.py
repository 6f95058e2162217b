"""The original library and the client in one process; test_neighbours runs it beside it.

Both extract features of the same photographs from a network with the same weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from thingsvision.utils import data as original_data

import thingsvision
import thingsvision_client

SERVER, MODULE, FOLDER, *PHOTOS = sys.argv[1:]
NETWORK = "squeezenet1_0"


def extract(library: Any, data: Any, extractor: Any) -> np.ndarray:
    """Return features by either library, with the same lines."""
    names = [Path(photo).name for photo in PHOTOS]
    dataset = data.ImageDataset(
        root=str(Path(PHOTOS[0]).parent),
        out_path=str(Path(FOLDER, library.__name__)),
        backend=extractor.get_backend(),
        transforms=extractor.get_transformations(),
        file_names=names,
    )
    batches = data.DataLoader(dataset=dataset, batch_size=2, backend=extractor.get_backend())
    return extractor.extract_features(batches=batches, module_name=MODULE, flatten_acts=True)


original = thingsvision.get_extractor(NETWORK, source="torchvision", device="cpu", pretrained=False)
weights = Path(FOLDER, "weights.pth")
torch.save(original.model.state_dict(), weights)
ours = thingsvision_client.get_extractor(
    NETWORK,
    source="torchvision",
    device="cpu",
    pretrained=False,
    model_path=str(weights),
    server=SERVER,
)
try:
    thingsvision_client.get_extractor_from_model(original.model, "cpu", "pt", server=SERVER)
except thingsvision_client.errors.MissingDependencyError as error:
    print(error)
found = {
    "expected": extract(thingsvision, original_data, original),
    "features": extract(thingsvision_client, thingsvision_client, ours),
    "tensorflow": tf.reduce_sum(tf.ones((2, 3))).numpy(),
}
np.savez(Path(FOLDER, "found.npz"), **found)
