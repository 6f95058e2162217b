"""Features by THINGSvision itself, which test_library_values runs in an environment of its own.

Arguments: a folder, the JSON of {model: modules}, and photographs of one folder. For each model,
random weights become MODEL.pth in the folder, and the features of its modules MODEL.npz.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from thingsvision.utils.data import DataLoader, ImageDataset

from thingsvision import get_extractor

folder, models, *photos = sys.argv[1:]
names = [Path(photo).name for photo in photos]
for seed, (name, modules) in enumerate(json.loads(models).items()):
    torch.manual_seed(seed)
    path = Path(folder, f"{name}.pth")
    options = {"source": "torchvision", "device": "cpu", "pretrained": False}
    torch.save(get_extractor(name, **options).model.state_dict(), path)
    extractor = get_extractor(name, model_path=str(path), **options)
    dataset = ImageDataset(
        root=str(Path(photos[0]).parent),
        out_path=folder,
        backend=extractor.get_backend(),
        transforms=extractor.get_transformations(),
        file_names=names,
    )
    batches = DataLoader(dataset=dataset, batch_size=2, backend=extractor.get_backend())
    features = {
        module: extractor.extract_features(batches=batches, module_name=module, flatten_acts=False)
        for module in modules
    }
    np.savez(Path(folder, f"{name}.npz"), **features)
