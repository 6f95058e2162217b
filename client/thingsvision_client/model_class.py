"""The model of THINGSvision's paper, at the path that the paper's listings import."""

from .paper.model import Model

__all__ = ["Model"]
