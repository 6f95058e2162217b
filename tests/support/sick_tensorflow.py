"""Makes TensorFlow's process fail as on a GPU, for inputs with certain values."""

from __future__ import annotations

import sys
from pathlib import Path

INVALID_ARGUMENT, ILLEGAL_ADDRESS = 1e6, 2e6
"""Values of an input that make a convolution of it fail."""

_SITECUSTOMIZE = f"""
import tensorflow as tf

convolve = tf.nn.convolution
texts = {{
    {INVALID_ARGUMENT}: "CUDA_ERROR_INVALID_VALUE: invalid argument",
    {ILLEGAL_ADDRESS}: "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered",
}}

def fail_or_convolve(input, *arguments, **more):
    if tf.executing_eagerly():
        text = texts.get(float(tf.reduce_max(input)))
        if text is not None:
            raise tf.errors.InternalError(None, None, "Failed to launch kernel: " + text)
    return convolve(input, *arguments, **more)

tf.nn.convolution = fail_or_convolve
"""
"""Python imports the module of this name before anything else."""


def sick_python(folder: Path) -> str:
    """Write an interpreter whose TensorFlow fails for these values, and return its path."""
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}:$PYTHONPATH" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)
