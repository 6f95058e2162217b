"""The model of THINGSvision's paper, at the path where the paper's listings import it."""

from .paper.model import Model

__all__ = ["Model"]
