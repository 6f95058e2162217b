"""Analyses of features: RSA of layers, objects of other packages, figures for a paper."""

from .comparison import compare_rdms, rsa
from .result import RSAResult
from .score import Score

__all__ = ["RSAResult", "Score", "compare_rdms", "rsa"]
