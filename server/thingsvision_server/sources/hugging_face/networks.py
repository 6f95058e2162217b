"""Builds networks of the library `transformers`, loads their weights, and finds their towers.

The library patches functions of the whole process while it loads weights, so networks are built
one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...errors import PreconditionError, WeightsMismatchError
from ..weights.state_dicts import StateDict
from .text_tokenizers import TOKENIZED

_lock = threading.Lock()


@contextmanager
def _exclusive_build() -> Iterator[None]:
    with _lock:
        # Otherwise the library prints a progress bar and a report for every network to the log.
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield


def build(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the network that `AutoModel` takes for a config, with initialised weights."""
    with _exclusive_build(), translate_errors(config.model_type):
        network: PreTrainedModel = AutoModel.from_config(
            config, trust_remote_code=False, dtype=torch.float32
        )
        return network.eval()


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with the tensors of a state dict, and the keys that did not match."""

    network: PreTrainedModel
    missing: frozenset[str]
    """Keys of the network that the state dict lacks: their weights are random."""
    unexpected: frozenset[str]
    """Keys of the state dict that the network does not have."""


def build_from_state(config: PreTrainedConfig, state: StateDict, called: str) -> LoadedNetwork:
    """Build a config's network with these tensors; the library renames the keys of old layouts.

    Raises WeightsMismatchError if a tensor's shape differs from the network's.
    """
    kind = network_class(config)
    with _exclusive_build():
        try:
            network, found = kind.from_pretrained(
                None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
            )
        # The error's own message only refers to a report in the log.
        except RuntimeError as error:
            sentence = f"{called} does not fit: {_shape_mismatches(kind, config, state) or error}"
            raise WeightsMismatchError(sentence, field="model.weights") from error
    missing, unexpected = (frozenset(found[f"{kind}_keys"]) for kind in ("missing", "unexpected"))
    return LoadedNetwork(network.eval(), missing, unexpected)


def network_class(config: PreTrainedConfig) -> Any:
    """Return the class that `AutoModel` takes for a config."""
    with torch.device("meta"):
        return type(build(config))


def _shape_mismatches(kind: Any, config: PreTrainedConfig, state: StateDict) -> str:
    _, found = kind.from_pretrained(
        None,
        config=config,
        state_dict=state,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return "; ".join(
        f"{name} has the shape {list(theirs)} instead of {list(ours)}"
        for name, theirs, ours in sorted(found["mismatched_keys"])
    )


@contextmanager
def translate_errors(subject: str) -> Iterator[None]:
    """Turn the library's errors for a checkpoint that it can't use into PreconditionError."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise _cannot_use(subject, error) from error
    except StrictDataclassError as error:
        raise _cannot_use(subject, error) from error


def _cannot_use(subject: str, error: Exception) -> PreconditionError:
    reason = str(error).strip().partition("\n")[0]
    version = transformers.__version__
    sentence = f"transformers {version} can't use {subject}: {reason or type(error).__name__}"
    return PreconditionError(sentence, field="model.name", subject=subject)


class Tower(nn.Module):
    """A module that calls a network with named inputs, without having it as a child."""

    def __init__(self, call: Callable[..., Any], inputs: Sequence[str] = ()) -> None:
        super().__init__()
        self._call = (call,)  # in a tuple: a module as an attribute would become a child
        self._inputs = tuple(inputs)

    def forward(self, batch: torch.Tensor) -> Any:
        """Call with images (N x 3 x H x W), or with N rows of each input (N x inputs x length)."""
        if not self._inputs:
            return self._call[0](pixel_values=batch)
        inputs = dict(zip(self._inputs, batch.unbind(1), strict=True))
        if batch.is_meta:  # the library inspects a mask's values, unless it has one row per token
            mask = inputs["attention_mask"].bool()
            inputs["attention_mask"] = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        return self._call[0](**inputs)


def image_tower(network: PreTrainedModel) -> Tower:
    """Return the part of a network that takes images; raise PreconditionError if it has none."""
    get_image_features = getattr(network, "get_image_features", None)
    if get_image_features is not None:
        return Tower(get_image_features)
    if network.main_input_name != "pixel_values":
        sentence = f"{type(network).__name__} takes {network.main_input_name}, not images"
        raise PreconditionError(sentence, field="model.name")
    return Tower(_unmask(network) if _masks_patches(network) else network)


def _masks_patches(network: PreTrainedModel) -> bool:
    return hasattr(getattr(network, "embeddings", None), "random_masking")


def _unmask(network: PreTrainedModel) -> Callable[..., Any]:
    """Have a masked autoencoder see all patches in order: in training it masks most at random."""
    network.config.mask_ratio = 0.0
    # A partial, not a closure: a deep copy of the tower then calls the copied network.
    return partial(_call_with_ordered_patches, network)


def _call_with_ordered_patches(network: PreTrainedModel, pixel_values: torch.Tensor) -> Any:
    height, width = network.get_submodule("embeddings.patch_embeddings").patch_size
    count = (pixel_values.shape[-2] // height) * (pixel_values.shape[-1] // width)
    order = torch.arange(count, dtype=torch.float32, device=pixel_values.device)
    return network(pixel_values=pixel_values, noise=order.expand(len(pixel_values), count))


def text_tower(network: PreTrainedModel) -> Tower:
    """Return the part of a network that takes texts."""
    return Tower(network.get_text_features, TOKENIZED)


def sees_texts(network: PreTrainedModel | type[PreTrainedModel]) -> bool:
    """Tell whether a network, or a class of networks, has a text tower."""
    return hasattr(network, "get_text_features")


def placeholders(shapes: Mapping[str, Sequence[int]]) -> StateDict:
    """Return tensors of these shapes that take no memory."""
    return {name: torch.zeros(()).expand(tuple(shape)) for name, shape in shapes.items()}
