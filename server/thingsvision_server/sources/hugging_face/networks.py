"""Builds networks of the library `transformers` and fills them; knows no folder and no source.

The library patches functions of the whole process while it fills a network, so one is built at
a time.
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
def _building() -> Iterator[None]:
    with _lock:
        # The library would print a bar and a report for every network onto the server's log.
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield


def build(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the network that `AutoModel` takes for a config, with initialised weights."""
    with _building(), unusable(config.model_type):
        network: PreTrainedModel = AutoModel.from_config(
            config, trust_remote_code=False, dtype=torch.float32
        )
        return network.eval()


@dataclass(frozen=True)
class FilledNetwork:
    """A network with the tensors of a file, and what did not fit."""

    network: PreTrainedModel
    missing: frozenset[str]
    """Tensors of the network that the file lacks: they hold random numbers."""
    unexpected: frozenset[str]
    """Tensors of the file that the network has no place for."""


def fill(config: PreTrainedConfig, state: StateDict, called: str) -> FilledNetwork:
    """Build a config's network with these tensors, renamed as the library renames old ones.

    Raises WeightsMismatchError where a tensor has another shape than the network wants.
    """
    kind = kind_of(config)
    with _building():
        try:
            network, found = kind.from_pretrained(
                None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
            )
        # Its message only points to a report on the log.
        except RuntimeError as error:
            sentence = f"{called} does not fit: {_misfits(kind, config, state) or error}"
            raise WeightsMismatchError(sentence, field="model.weights") from error
    missing, unexpected = (frozenset(found[f"{one}_keys"]) for one in ("missing", "unexpected"))
    return FilledNetwork(network.eval(), missing, unexpected)


def kind_of(config: PreTrainedConfig) -> Any:
    """Return the class of network that `AutoModel` takes for a config."""
    with torch.device("meta"):
        return type(build(config))


def _misfits(kind: Any, config: PreTrainedConfig, state: StateDict) -> str:
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
def unusable(subject: str) -> Iterator[None]:
    """Turn what the library raises for a checkpoint that it can't use into PreconditionError."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise _unusable(subject, error) from error
    except StrictDataclassError as error:
        raise _unusable(subject, error) from error


def _unusable(subject: str, error: Exception) -> PreconditionError:
    reason = str(error).strip().partition("\n")[0]
    version = transformers.__version__
    sentence = f"transformers {version} can't use {subject}: {reason or type(error).__name__}"
    return PreconditionError(sentence, field="model.name", subject=subject)


class Tower(nn.Module):
    """A call of a network with named inputs, as a module that is no part of that network."""

    def __init__(self, call: Callable[..., Any], inputs: Sequence[str] = ()) -> None:
        super().__init__()
        self._call = (call,)  # not as a child
        self._inputs = tuple(inputs)

    def forward(self, batch: torch.Tensor) -> Any:
        """Call with images (N x 3 x H x W), or with N rows of each input (N x inputs x length)."""
        if not self._inputs:
            return self._call[0](pixel_values=batch)
        inputs = dict(zip(self._inputs, batch.unbind(1), strict=True))
        if batch.is_meta:  # the library looks at a mask's values, unless it is one for each token
            mask = inputs["attention_mask"].bool()
            inputs["attention_mask"] = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        return self._call[0](**inputs)


def image_tower(network: PreTrainedModel) -> Tower:
    """Return the part of a network that sees images; raise PreconditionError where none does."""
    of_images = getattr(network, "get_image_features", None)
    if of_images is not None:
        return Tower(of_images)
    if network.main_input_name != "pixel_values":
        sentence = f"{type(network).__name__} takes {network.main_input_name}, not images"
        raise PreconditionError(sentence, field="model.name")
    return Tower(network if not _hides_patches(network) else _unhidden(network))


def _hides_patches(network: PreTrainedModel) -> bool:
    return hasattr(getattr(network, "embeddings", None), "random_masking")


def _unhidden(network: PreTrainedModel) -> Callable[..., Any]:
    """Have a masked autoencoder see every patch, in its place: trained, it hides most at random."""
    network.config.mask_ratio = 0.0
    # Not a function within this one: whoever copies the network copies what it is called by, too.
    return partial(_call_in_order, network)


def _call_in_order(network: PreTrainedModel, pixel_values: torch.Tensor) -> Any:
    height, width = network.get_submodule("embeddings.patch_embeddings").patch_size
    count = (pixel_values.shape[-2] // height) * (pixel_values.shape[-1] // width)
    order = torch.arange(count, dtype=torch.float32, device=pixel_values.device)
    return network(pixel_values=pixel_values, noise=order.expand(len(pixel_values), count))


def text_tower(network: PreTrainedModel) -> Tower:
    """Return the part of a network that sees texts."""
    return Tower(network.get_text_features, TOKENIZED)


def sees_texts(network: PreTrainedModel | type[PreTrainedModel]) -> bool:
    """Tell whether a part of a network, or of a class of them, sees texts alone."""
    return hasattr(network, "get_text_features")


def shapes_only(shapes: Mapping[str, Sequence[int]]) -> StateDict:
    """Return tensors of these shapes that take no memory."""
    return {name: torch.zeros(()).expand(tuple(shape)) for name, shape in shapes.items()}
