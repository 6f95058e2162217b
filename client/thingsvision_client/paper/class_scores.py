"""Class probabilities from a model's output: the module that has them, and their meaning."""

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
    """The module whose output is a score per class; the scores may already be probabilities."""

    module: str
    are_probabilities: bool

    def probabilities(self, scores: Array) -> Array:
        """Return images x classes: the softmax of the scores, so that each row sums to 1."""
        flat: Array = scores.reshape(len(scores), -1)
        if self.are_probabilities:
            return flat
        from scipy.special import softmax

        probabilities: Array = softmax(flat.astype("float64"), axis=1)
        return probabilities.astype(flat.dtype)


def class_scores(modules: Sequence[ModuleInfo]) -> ClassScores:
    """Return the class scores of a model: its output as a whole.

    Networks of Keras end in a softmax. Raises InvalidRequestError for a model whose output is not a
    vector per image, such as CLIP.
    """
    whole = next((module for module in modules if not module.name), None)
    if whole is None or not whole.extractable or len(whole.output_shape) != 1:
        raise InvalidRequestError(
            "return_probabilities needs a model whose output is a score per class, unlike this "
            "one (CLIP and the like compare images with texts)."
        )
    run = [module for module in modules if module.name and module.call_count]
    is_softmax = bool(run) and (run[-1].type == "Softmax" or _SOFTMAX in run[-1].attributes)
    return ClassScores(whole.name, is_softmax)
