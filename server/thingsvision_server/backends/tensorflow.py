"""Runs Keras models in a child process that TensorFlow has for itself; knows no source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorFlowRuntime:
    """The child process: started when a model needs it, ended with its last model."""

    python: str
    """Interpreter of an environment that has TensorFlow."""
