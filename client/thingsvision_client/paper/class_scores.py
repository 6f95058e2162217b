"""A model's output as class probabilities: which module has it, and what it means; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from ..values.records import ModuleInfo

if TYPE_CHECKING:
    from ..arrays import Array

_SOFTMAX = "activation=softmax"


@dataclass(frozen=True)
class ClassScores:
    """The module that puts out a score per class; they may be probabilities already."""

    module: str
    are_probabilities: bool

    def probabilities(self, scores: Array) -> Array:
        """Return images x classes: the softmax of the scores, each row with a sum of 1."""
        flat: Array = scores.reshape(len(scores), -1)
        if self.are_probabilities:
            return flat
        from scipy.special import softmax

        probabilities: Array = softmax(flat.astype("float64"), axis=1)
        return probabilities.astype(flat.dtype)


def class_scores(modules: Sequence[ModuleInfo]) -> ClassScores:
    """Return where a model has its class scores: its output as a whole.

    Networks of Keras end in a softmax of their own. Raises InvalidRequestError for a model whose
    output is no vector per image, such as CLIP.
    """
    whole = next((module for module in modules if not module.name), None)
    if whole is None or not whole.extractable or len(whole.output_shape) != 1:
        raise InvalidRequestError(
            "return_probabilities needs a model that puts out a score per class; this one does "
            "not (CLIP and the like compare images with texts)."
        )
    run = [module for module in modules if module.name and module.call_count]
    is_softmax = bool(run) and (run[-1].type == "Softmax" or _SOFTMAX in run[-1].attributes)
    return ClassScores(whole.name, is_softmax)
