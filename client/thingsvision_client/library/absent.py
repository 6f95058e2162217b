"""What networks have and a server's models don't, and what to use in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import InvalidRequestError

_EXTRACT = "use extractor.extract_features(batches, module_name), or extract_batch(batch, ...)"
_WEIGHTS = (
    "the weights stay on the server; if you need them, load the model with its own library on this "
    "machine"
)
_COUNT = f"{_WEIGHTS}, and for their number use `parameter_count`"
_HOOKS = f"{_EXTRACT}, which gives what a forward hook sees"
CHANGE = (
    "load the network yourself, change it, and send it with get_extractor_from_model(network, ...)"
)
_PRECISION = "get_extractor(..., model_parameters={'precision': ...}) chooses the precision"
_TEXT = "use extractor.extract_text_features(texts)"

METHODS: Mapping[str, str] = {
    **dict.fromkeys(("__call__", "forward", "call", "predict", "predict_on_batch"), _EXTRACT),
    **dict.fromkeys(("encode_image", "get_image_features", "forward_features"), _EXTRACT),
    **dict.fromkeys(("encode_text", "get_text_features"), _TEXT),
    **dict.fromkeys(("parameters", "named_parameters", "buffers", "named_buffers"), _COUNT),
    **dict.fromkeys(("state_dict", "get_parameter", "get_buffer", "get_weights"), _WEIGHTS),
    **dict.fromkeys(("save", "save_weights", "save_pretrained"), _WEIGHTS),
    "load_state_dict": "get_extractor(..., model_path=file) sends weights of yours",
    "load_weights": "get_extractor(..., model_path=file) sends weights of yours",
    "set_weights": "get_extractor(..., model_path=file) sends weights of yours",
    "register_forward_hook": _HOOKS,
    "register_forward_pre_hook": _HOOKS,
    "register_full_backward_hook": _HOOKS,
    "register_backward_hook": _HOOKS,
    **dict.fromkeys(("half", "double", "bfloat16"), _PRECISION),
    **dict.fromkeys(("add_module", "register_module", "register_buffer"), CHANGE),
    **dict.fromkeys(("register_parameter", "set_submodule", "apply"), CHANGE),
    **dict.fromkeys(("zero_grad", "fit", "evaluate", "train_on_batch"), CHANGE),
    "compile": "get_extractor(..., model_parameters={'compiled': True}) compiles it on the server",
}
"""Methods that need the weights or change the network, and the advice for each."""

ATTRIBUTES: Mapping[str, str] = {
    **dict.fromkeys(("weight", "bias", "running_mean", "running_var", "kernel", "gamma"), _COUNT),
    **dict.fromkeys(("beta", "in_proj_weight", "in_proj_bias", "num_batches_tracked"), _COUNT),
    **dict.fromkeys(("trainable_weights", "variables", "trainable_variables"), _COUNT),
    **dict.fromkeys(("_parameters", "_buffers", "_modules", "_apply"), _WEIGHTS),
    **dict.fromkeys(("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"), _HOOKS),
    **dict.fromkeys(("input", "inputs", "outputs"), _EXTRACT),
}
"""The same for attributes that are not methods."""


class AbsentMethod:
    """Stands for a method that a view lacks: calling it raises InvalidRequestError with advice."""

    def __init__(self, owner: str, name: str) -> None:
        self._text = refusal(owner, name, METHODS[name])

    def __call__(self, *_args: Any, **_options: Any) -> NoReturn:
        """Raise InvalidRequestError."""
        raise InvalidRequestError(self._text)


def refusal(owner: str, name: str, advice: str) -> str:
    """Return the sentence for something that a view of a model does not have."""
    lack = "which can't be called" if name == "__call__" else f"without `{name}`"
    return f"{owner} is a read-only view of a model on a server, {lack}: {advice}."
