"""The source `keras`: every class of `keras.applications`, with its own family's preprocessing.

The classes are read from the package's files, so that nothing is imported until a model is used.
Classes that Keras 3 no longer has (RegNet, ResNet-RS) come from its predecessor `tf_keras`.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog

from ...shortages import raise_shortage
from ..context import SourceContext
from .classes import KerasModel, KerasSource

_PACKAGES = ("keras", "tf_keras")
_FIND = "import importlib.util as u, json, sys; specs = [u.find_spec(n) for n in sys.argv[1:]]"
_PRINT = "print(json.dumps([s and s.origin for s in specs]))"

_log = structlog.get_logger(__name__)


def open_source(context: SourceContext) -> KerasSource:
    """Open the source; TensorFlow starts when a model is first used."""
    python = context.tensorflow.python
    models = {name: KerasModel(package, name) for name, package in _applications(python).items()}
    nothing = f"Keras isn't installed for the interpreter {python}."
    return KerasSource("keras", models, context, nothing=nothing)


def _applications(python: str) -> dict[str, str]:
    """Return the first package that has each class of `applications`."""
    found: dict[str, str] = {}
    for package, folder in _package_folders(python).items():
        for name in _classes(folder / "applications" / "__init__.py", package):
            found.setdefault(name, package)
    return found


def _classes(file: Path, package: str) -> Iterator[str]:
    """Yield the classes that this file imports from the package's `src.applications`."""
    if not file.is_file():
        return
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(
            f"{package}.src.applications."
        ):
            yield from (alias.asname or alias.name for alias in statement.names)


def _package_folders(python: str) -> dict[str, Path]:
    """Return the folders of the packages in an interpreter, without importing them."""
    origins = _own_origins() if python == sys.executable else _origins_of(python)
    found = zip(_PACKAGES, origins, strict=True)
    return {package: Path(origin).parent for package, origin in found if origin}


def _own_origins() -> list[str | None]:
    specs = [importlib.util.find_spec(package) for package in _PACKAGES]
    return [spec.origin if spec else None for spec in specs]


def _origins_of(python: str) -> list[str | None]:
    command = [python, "-c", f"{_FIND}; {_PRINT}", *_PACKAGES]
    try:
        run = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - a setting
        origins: list[str | None] = json.loads(run.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise_shortage(error)
        _log.warning("no Keras models: interpreter fails", python=python, error=str(error))
        return [None] * len(_PACKAGES)
    return origins
