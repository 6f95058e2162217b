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
# # Steps of CORnet, tokens of CLIP
#
# Two kinds of networks whose modules have more than one output per image: recurrent networks, step
# by step, and transformers, token by token.
#
# You need a server, named by the environment variable `THINGSVISION_SERVER`, and
# `pip install '.[plot]' scikit-image` for figures and photographs.
#
# With random weights, this notebook runs on any server. With `weights = ""` it uses trained
# weights, if your server has them.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import skimage

from thingsvision_client import Client, correlate_rdms

weights = "@random:0"

client = Client()
folder = Path(skimage.__file__).parent / "data"
names = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]
photographs = [folder / name for name in names]

# %% [markdown]
# ## CORnet-R: the same area at different times
#
# Its areas V1, V2, V4 and IT run five times per image, as `show-model` and `Client.modules` say.

# %%
cornet = f"custom/cornet-r{weights}"
for module in client.modules(cornet):
    if module.call_count > 1 and module.name.endswith("output"):
        print(module.name, module.output_shape, "runs", module.call_count, "times")

# %% [markdown]
# One forward pass gives all steps. `@all` stacks them along a new axis.

# %%
steps = [f"IT.output@t={step}" for step in range(5)]
result = client.extract(cornet, photographs, [*steps, "IT.output@all"], batch_size=5)
every = result.features["IT.output@all"]
print(every.shape)
for step, name in enumerate(steps):
    assert (every[:, step] == result.features[name]).all()

# %% [markdown]
# At t=0, no input has reached IT yet: its output is the same for all images. How similar is the
# RDM of each later step to that of the last step?

# %%
first = result.features["IT.output@t=0"]
assert (first == first[0]).all()

rdms = client.rdm(cornet, photographs, steps[1:], batch_size=5).rdms
last = rdms[steps[-1]]
agreement = [correlate_rdms(rdms[name], last) for name in steps[1:]]

figure, axis = plt.subplots(figsize=(4, 2.6), layout="constrained")
axis.plot(range(1, 5), agreement, marker="o")
axis.set_xticks(range(1, 5))
axis.set_xlabel("step")
axis.set_ylabel("correlation with the last")

# %% [markdown]
# ## CLIP: a sequence of tokens
#
# A block of a vision transformer outputs a class token, then one token per patch of the image: here
# 7 x 7 patches of 32 x 32 pixels.

# %%
clip = f"custom/clip/ViT-B-32{weights}"
block = "visual.transformer.resblocks.5"
whole = client.extract(clip, photographs, block, batch_size=5).features[block]
print(whole.shape)

# %% [markdown]
# `token_extraction` reduces them to one vector per image, on the server.


# %%
def one_vector(kind):
    """Return images x width."""
    found = client.extract(clip, photographs, block, batch_size=5, token_extraction=kind)
    return found.features[block]


token, mean = one_vector("cls_token"), one_vector("avg_pool")
assert (token == whole[:, 0]).all()
np.testing.assert_allclose(mean, whole[:, 1:].mean(axis=1), rtol=1e-4, atol=1e-5)

# %% [markdown]
# The patch tokens, each where its patch is in the image: how far is each from the mean token?

# %%
patches = whole[:, 1:].reshape(len(names), 7, 7, -1)
distance = np.linalg.norm(patches - patches.mean(axis=(1, 2), keepdims=True), axis=-1)
figure, axes = plt.subplots(2, len(names), figsize=(10, 4))
for column, name in enumerate(names):
    axes[0, column].imshow(plt.imread(folder / name))
    axes[1, column].imshow(distance[column], cmap="cividis")
for axis in axes.flat:
    axis.axis("off")

# %% [markdown]
# ## CLIP: images and texts in one space

# %%
texts = ["a photo of a cat", "a cup of coffee", "a rocket"]
of_images = client.extract(clip, photographs, "visual", batch_size=5).features["visual"]
of_texts = client.extract_texts(clip, texts).features["text"]


def unit(rows):
    """Return rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


np.round(unit(of_images) @ unit(of_texts).T, 2)
