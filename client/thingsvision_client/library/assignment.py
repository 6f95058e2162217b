"""Which attributes of the façades may be assigned, and what to use for the others."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

_NEW = "make a new one with other arguments"
_OWN_FORWARD = "get_extractor_from_model(network, ..., forward_fn=...) sends your forward pass"
_ONE_BATCH = "extractor.extract_batch(batch, module_name) returns the features of one batch"
_SERVER = "the server loads a model when it needs it; client.load(extractor.model) does so now"
_PCA = (
    "extractor.client.fit_pca(extractor.model, batches.queue(), module_name, components=..., "
    "preprocessing=extractor.changes) fits a PCA, and get_extractor(..., model_parameters="
    "{'reduction': Reduction(pca=...)}) applies it"
)
_FREE = (
    "the server unloads idle models when it needs their memory; extractor.client.unload("
    "extractor.model) does so now"
)

ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("model_name", "pretrained", "model_path", "source", "backend"), _NEW),
    "model_parameters": f"{_NEW}; `token_extraction` can be assigned",
    "preprocess": "give ImageDataset(transforms=...) the preprocessing of its images",
    "get_transformations": "give ImageDataset(transforms=...) the preprocessing of its images",
    "get_default_transformation": "use extractor.get_transformations(resize_dim, crop_dim)",
    "options": "model_parameters of get_extractor takes options",
    "changes": "extractor.get_transformations(...) changes preprocessing",
    "client": f"{_NEW}, such as server=...",
    "layers": "assign a network of yours to `model`",
    "forward": _OWN_FORWARD,
    "flatten_acts": "get_extractor_from_model(network, ..., flatten_fn=...) flattens your way",
    "weights": "get_extractor(..., model_path=file) sends weights of yours",
    **dict.fromkeys(("activations", "hook_handle", "hook_handles"), _ONE_BATCH),
    **dict.fromkeys(("get_activation", "register_hook"), _ONE_BATCH),
    "module_name": "name the module in extract_features or batch_extraction",
    "module_names": "name the modules in extract_features or batch_extraction",
    "output_type": "extract_features and batch_extraction take output_type",
    "batch_size": "load_batches and DataLoader take batch_size",
    **dict.fromkeys(("load_model", "load_model_from_source", "prepare_inference"), _SERVER),
    "fit_pca": _PCA,
    "clip_n_px": "extractor.get_transformations() has the model's input size",
}
"""Attributes of the library's extractors and models, and the advice for each."""


class CheckedAttributes:
    """Attributes of which only some can be assigned; for others an AttributeError has advice."""

    def __setattr__(self, name: str, value: Any) -> None:
        _check_assignment(self, name)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name.startswith("_") or name in vars(self):
            super().__delattr__(name)
        elif hasattr(self, name):
            advice = f": {_FREE}" if name in ("model", "extractor") else ""
            raise AttributeError(f"`{name}` of {type(self).__name__} can't be deleted{advice}.")
        else:
            self.__getattr__(name)  # raises, with advice

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        kind = type(self).__name__
        advice = f": {ADVICE[name]}." if name in ADVICE else f"{_near(self, name)}."
        raise AttributeError(f"{kind} has no attribute {name!r}{advice}")


def _check_assignment(owner: Any, name: str) -> None:
    """Raise AttributeError unless an attribute of `owner` may be assigned.

    Properties with a setter may, and what is not public. Users' own subclasses may also add
    attributes whose names are new.
    """
    found = getattr(type(owner), name, None)
    if name.startswith("_") or (isinstance(found, property) and found.fset is not None):
        return
    kind = type(owner).__name__
    if found is not None or name in ADVICE:
        advice = f": {ADVICE[name]}" if name in ADVICE else ""
        raise AttributeError(f"`{name}` of {kind} can't be assigned{advice}.")
    if type(owner).__module__.partition(".")[0] == __name__.partition(".")[0]:
        raise AttributeError(
            f"{kind} has no attribute {name!r}, so assigning it would have no effect"
            f"{_near(owner, name)}."
        )


def _near(owner: Any, name: str) -> str:
    public = [known for known in dir(type(owner)) if not known.startswith("_")]
    near = get_close_matches(name, public)
    return f"; near: {', '.join(near)}" if near else ""
