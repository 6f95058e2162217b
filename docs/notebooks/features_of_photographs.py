# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Features of photographs
#
# Features of some photographs from a trained network: its modules, their activations, saved
# features, and an RDM. The network is SqueezeNet, which is small; any other model works as well.
#
# You need a server, named by the environment variable `THINGSVISION_SERVER`, and
# `pip install '.[plot]' scikit-image` for figures and photographs.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import skimage

from thingsvision_client import (
    DataLoader,
    ImageDataset,
    compute_rdm,
    get_extractor,
    save_features,
)

photographs = Path(skimage.__file__).parent / "data"
names = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]

# %%
figure, axes = plt.subplots(1, len(names), figsize=(10, 2.4))
for axis, name in zip(axes, names, strict=True):
    axis.imshow(plt.imread(photographs / name))
    axis.set_title(Path(name).stem, size=8)
    axis.axis("off")

# %% [markdown]
# ## Which modules are there?
#
# Shapes are of one image's activations.

# %%
extractor = get_extractor("squeezenet1_0", pretrained=True, device=None, source="torchvision")
extractor.show_model()

# %% [markdown]
# ## One forward pass for several modules
#
# `file_names` sets the order of the rows, which `file_names.txt` in the folder of results lists.

# %%
results = Path("results")
dataset = ImageDataset(photographs, results, extractor.get_backend(), file_names=names)
batches = DataLoader(dataset, batch_size=5, backend=extractor.get_backend())
features = extractor.extract_features(batches, module_names=["features.3", "features.12"])
for module, rows in features.items():
    print(module, rows.shape, rows.dtype)

# %% [markdown]
# The server preprocesses the images as the weights require:

# %%
extractor.get_transformations()

# %% [markdown]
# ## Maps
#
# An early layer has a map of the image per channel. These are the means of the 128 maps of
# `features.3`.

# %%
figure, axes = plt.subplots(1, len(names), figsize=(10, 2.4))
for axis, name, maps in zip(axes, names, features["features.3"], strict=True):
    axis.imshow(maps.mean(axis=0), cmap="cividis")
    axis.set_title(Path(name).stem, size=8)
    axis.axis("off")

# %% [markdown]
# ## To a file, and back
#
# Beside the file is a JSON file with the provenance of the features.

# %%
save_features(features, results, "npz")
saved = np.load(results / "features.npz")
assert all((saved[module] == features[module]).all() for module in features)
sorted(path.name for path in results.iterdir())

# %%
origin = json.loads((results / "features.npz.json").read_text())
{key: origin[key] for key in ("model", "model_sha256", "framework", "device", "batch_size")}

# %% [markdown]
# ## An RDM
#
# 1 - Pearson's r of the images' activations, for an early and a late layer.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
labels = [Path(name).stem for name in names]
for axis, (module, rows) in zip(axes, features.items(), strict=True):
    rdm = compute_rdm(rows.reshape(len(rows), -1), method="correlation")
    picture = axis.imshow(rdm, cmap="cividis")
    axis.set_title(module)
    axis.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    axis.set_yticks(range(len(labels)), labels)
    figure.colorbar(picture, ax=axis)
