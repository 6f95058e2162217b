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
# # Layers and the brain
#
# Which layer of a network is most similar to inferior temporal cortex? The 92 images, human fMRI
# and recordings of monkey cells are from Kriegeskorte et al. (2008), the similarity judgements from
# Mur et al. (2013). They come with [rsatoolbox](https://github.com/rsagroup/rsatoolbox)
# (`demos/92imageData`).
#
# You need a server, named by the environment variable `THINGSVISION_SERVER`,
# `pip install '.[rsa]'`, and a folder with
#
# * `stimuli/001.png` to `092.png`,
# * `human_it.npy`, `monkey_it.npy`, `behaviour.npy`: 92 x 92, rows in the order of the images,
# * `categories.csv`: one line per image, with 0 or 1 for `human`, `face`, `animal`, `natural`.

# %%
import os
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Image

from thingsvision_client import plot_rdms, rsa

data = Path(os.environ.get("RSA92", "rsa92"))
references = {
    "human IT": data / "human_it.npy",
    "monkey IT": data / "monkey_it.npy",
    "behaviour": data / "behaviour.npy",
}

# %% [markdown]
# ## One call
#
# The RDMs of all layers come from one forward pass per image. The intervals come from 100 bootstrap
# samples of the images; for a paper, use 1000 or more.

# %%
model = "torchvision/squeezenet1_0"
layers = ["features.3", "features.7", "features.12", "classifier.3"]
result = rsa(
    data / "stimuli",
    references,
    model,
    layers,
    correlation="pearson",
    batch_size=4,
    bootstrap=100,
)
table = result.to_dataframe().pivot(index="module", columns="reference", values="score")
table.loc[layers].round(3)

# %% [markdown]
# The figure, and everything the numbers depend on, for the supplement:

# %%
result.save("rsa-results")
Image("rsa-results/rsa.png", width=700)

# %%
facts = ("model", "model_sha256", "metric", "correlation", "references")
{key: result.to_dict()[key] for key in facts}

# %% [markdown]
# ## Looking at the RDMs
#
# Colours are percentiles, so that matrices of different scales can be compared.

# %%
rows = pd.read_csv(data / "categories.csv")
owners = np.where(rows["human"] == 1, "human ", "animal ")
living = owners + np.where(rows["face"] == 1, "face", "body")
things = np.where(rows["natural"] == 1, "natural thing", "artificial thing")
kinds = np.where(rows["animal"] == 1, living, things)

panels = {
    "human IT": np.load(data / "human_it.npy"),
    **{name: result.rdms.rdms[name] for name in ("features.12", "classifier.3")},
}
plot_rdms(
    "rdms.png",
    panels,
    images=result.rdms.images,
    thumbnails=data / "stimuli",
    categories=list(kinds),
    scale="ranks",
)
Image("rdms.png", width=800)

# %% [markdown]
# ## Learning, or architecture?
#
# The same network with random weights shows how much comes from the architecture alone.

# %%
random = rsa(
    data / "stimuli",
    references,
    f"{model}@random:0",
    layers,
    correlation="pearson",
    batch_size=4,
    bootstrap=0,
)
for layer in layers:
    trained, untrained = (found.of("human IT", layer).score for found in (result, random))
    print(f"{layer:13} trained {trained:.3f}  random {untrained:.3f}")
