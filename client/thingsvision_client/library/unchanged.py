"""Methods of networks that change nothing on a server: modes, devices and element types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..client import Client
from ..errors import InvalidRequestError
from .absent import METHODS, refusal
from .devices import check_device

if TYPE_CHECKING:
    from typing_extensions import Self


class Unchanged:
    """The methods by which PyTorch sets modes, devices and element types, for views of modules.

    They return the view if that is how the server runs the model, and raise otherwise.
    """

    _client: Client

    training = trainable = False

    def eval(self) -> Self:
        """Return the view: a server runs networks in evaluation mode."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Return the view if `mode` is False. Raises InvalidRequestError otherwise."""
        return self._unless(mode, "train", "a server runs networks in evaluation mode only")

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Return the view if `requires_grad` is False. Raises InvalidRequestError otherwise."""
        return self._unless(requires_grad, "requires_grad_", "a server computes no gradients")

    def float(self) -> Self:
        """Return the view: weights are float32, as long as no other precision is requested."""
        return self

    def to(self, *where: Any, **options: Any) -> Self:
        """Return the view; warn if the server lacks the device. Other dtypes are refused."""
        for value in (*where, *options.values()):
            if str(value).startswith("torch.") or hasattr(value, "is_floating_point"):
                self._unless(str(value) != "torch.float32", f"to({value})", METHODS["half"])
            elif isinstance(value, str) or hasattr(value, "index"):
                check_device(self._client, value)
        return self

    def cuda(self, device: Any = None) -> Self:
        """Return the view; warn if the server has no GPU."""
        check_device(
            self._client, f"cuda:{device}" if isinstance(device, int) else device or "cuda"
        )
        return self

    def cpu(self) -> Self:
        """Return the view; warn if the server does not run models on its CPU."""
        check_device(self._client, "cpu")
        return self

    @property
    def _label(self) -> str:
        raise NotImplementedError

    def _unless(self, wanted: Any, method: str, advice: str) -> Self:
        if wanted:
            raise InvalidRequestError(refusal(self._label, method, advice))
        return self
