"""The paper's library, THINGSvision 1.x, by its own names: models, data loaders, comparisons."""
