"""Loads a network with the state dict that a user uploaded, or with the part of it that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...backends.torch.seeding import seed_thread
from ...errors import WeightsMismatchError
from ..base import ModelKey, Uploaded
from ..uploads.guests import UploadedTensors
from ..uploads.records import read_record
from ..weights.folder import WeightsFolder
from ..weights.key_mismatches import key_mismatches, unassignable
from ..weights.loading import load_network
from ..weights.parts import Fit, Part, closest_part, describe_parts, find_part, parts_that_fit
from ..weights.state_dicts import (
    StateDict,
    load_state,
    state_dict_in,
    state_dicts_in,
    usual_keys,
)

_NETWORK_ERRORS = (LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What a conversion or a network raises for a state dict of another layout."""

_OWN_NETWORK = (
    "A network with other layers, such as a last layer for other classes, can be sent with "
    "get_extractor_from_model"
)

_DENSE = "Save dense tensors of floats, in memory"

_OPTIONAL = "num_batches_tracked"
"""A buffer that files of old versions lack; PyTorch fills it in."""


@dataclass(frozen=True)
class Recipe:
    """How a source makes a network from the tensors of a file."""

    convert: Callable[[StateDict], StateDict]
    """Gives the file's tensors the network's names."""
    build: Callable[[StateDict], nn.Module]
    """Builds the network, with the optional parts that a state dict has."""
    fill: Callable[[StateDict, str], nn.Module] | None = None
    """Returns the network with a state dict of the file called so, if its library has a way."""
    may_be_keras: bool = False
    """Whether Keras' files of weights are read, too."""


def load_uploaded(
    key: ModelKey, weights: Uploaded, folder: WeightsFolder, recipe: Recipe
) -> tuple[nn.Module, str]:
    """Return the network with uploaded weights, and the name of the part that was taken.

    The name is empty if the file has nothing to choose from. Raises WeightsMismatchError.
    """
    path = folder.find_upload(weights.sha256)
    called = read_record(path.parent, path.name, field="model.weights_sha256").called
    tensors = UploadedTensors(path, called, folder.guests, may_be_keras=recipe.may_be_keras)
    upload = _Upload(key, called, tensors, recipe)
    if weights.part:
        return upload.load(upload.find_part(weights.part)), weights.part
    if upload.has_choice():
        part = upload.choose()
        name = "" if part is None or upload.is_usual(part) else str(part)
        return upload.load(part), name
    try:
        return upload.load(None), ""
    except WeightsMismatchError:
        part = upload.choose()
        if part is None or not str(part):
            raise
    return upload.load(part), str(part)


@dataclass(frozen=True)
class _Upload:
    """A file for a model."""

    key: ModelKey
    called: str
    tensors: UploadedTensors
    recipe: Recipe

    def find_part(self, name: str) -> Part:
        """Return the part that a user names."""
        return find_part(self._checkpoint(), name, self.called)

    def has_choice(self) -> bool:
        """Return whether the file contains several state dicts."""
        return len(state_dicts_in(self._checkpoint())) > 1

    def is_usual(self, part: Part) -> bool:
        """Return whether a part is under the keys that libraries publish weights with."""
        return not part.prefix and part.keys == usual_keys(self._checkpoint())

    def choose(self) -> Part | None:
        """Return the only part that fits; None if none does."""
        names = [name for name in self._skeleton({}) if not name.endswith(_OPTIONAL)]
        fitting = parts_that_fit(self._checkpoint(), Fit(names, self._fits))
        if len(fitting) > 1:
            listed = ", ".join(repr(str(part)) for part in fitting)
            raise WeightsMismatchError(
                f"{self.called} has several parts that fit {self._model}: {listed}. Choose one: "
                f"model_parameters={{'part': {str(fitting[0])!r}}} of get_extractor, or "
                f"{self.key}:{fitting[0]} as the model",
                field="model.weights_part",
            )
        return fitting[0] if fitting else None

    def load(self, part: Part | None) -> nn.Module:
        """Return the network with a part of the file, or as its source reads it."""

        def read() -> StateDict:
            if part is None:
                state = state_dict_in(self._checkpoint(), self.called)
            else:
                state = self.find_part(str(part)).state
            return self.recipe.convert(state)

        if self.recipe.fill is not None:
            return self.recipe.fill(read(), self.called)
        return load_network(lambda state: self._build(state, part), read)

    def _build(self, state: StateDict, part: Part | None) -> nn.Module:
        network = self.recipe.build(state)
        try:
            return load_state(network, state)
        except RuntimeError as error:
            # PyTorch's own message lists all missing keys first, which leaves no room for the rest.
            why = key_mismatches(network, state)
            advice = (
                self._advice(network, state, part) if why else f"{unassignable(state)}. {_DENSE}"
            )
            which = (
                f"The part {str(part)!r} of {self.called}" if part and str(part) else self.called
            )
            raise WeightsMismatchError(
                f"{which} does not fit {self._model}: {why}{'. ' if why else ''}{advice}",
                field="model.weights_sha256",
            ) from error

    def _advice(self, network: nn.Module, state: StateDict, part: Part | None) -> str:
        """Return what else the file has, and what the user can do."""
        checkpoint, names = self._checkpoint(), network.state_dict()
        if 2 * sum(name in state for name in names) > len(names):  # a wrong head, say
            return _OWN_NETWORK
        closest = closest_part(checkpoint, names, part)
        sentences = [describe_parts(checkpoint, names).removesuffix(".")]
        if closest is not None or (part is None and self.has_choice()):
            sentences.append("Choose with model_parameters={'part': ...} of get_extractor")
        if closest is not None:
            why = key_mismatches(network, closest.state)
            sentences += (
                [f"Closest is the part {str(closest)!r}: {why}", _OWN_NETWORK]
                if why
                else [f"The part {str(closest)!r} fits"]
            )
        return ". ".join(filter(None, sentences))

    def _fits(self, state: StateDict) -> bool:
        try:
            converted = self.recipe.convert(dict(state))
            network = self._skeleton(converted)
        except _NETWORK_ERRORS:
            return False
        return converted.keys() <= network.keys() and all(
            name.endswith(_OPTIONAL) or (name in converted and converted[name].shape == shape)
            for name, shape in network.items()
        )

    def _skeleton(self, state: StateDict) -> Mapping[str, torch.Size]:
        """Return the shapes of the network's tensors, by their names."""
        try:
            with torch.device("meta"):
                network = self.recipe.build(state)
        # A network that computes with its initial values.
        except _NETWORK_ERRORS:
            with seed_thread(0):
                network = self.recipe.build(state)
        return {name: tensor.shape for name, tensor in network.state_dict().items()}

    @property
    def _model(self) -> str:
        return f"{self.key.source}/{self.key.name}"

    def _checkpoint(self) -> Mapping[str, Any]:
        """Return all that the file contains."""
        return self.tensors.checkpoint()
