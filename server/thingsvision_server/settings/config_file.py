"""Reads options from a TOML file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import tomllib

from .environment import nearest

_CLOSE = 0.6
"""An unknown key is an error in any case: name also a less similar option."""


class ConfigFileError(ValueError):
    """A file can't be read, or has keys that are not options; its lines are sentences."""


def read_config_file(file: Path, options: Mapping[str, object]) -> dict[str, Any]:
    """Return the values in a TOML file by option: `device-memory` is the same as `device_memory`.

    `options` are the types of the options by name.

    Raises ConfigFileError with a sentence for each mistake.
    """
    values: dict[str, Any] = {}
    mistakes = []
    for key, value in _parse(file).items():
        name = key.replace("-", "_")
        if name not in options:
            mistakes.append(_unknown(file, key, value, options))
        elif name in values:
            mistakes.append(f"{file} has {name} twice")
        elif isinstance(value, bool) is not (options[name] is bool) or isinstance(value, dict):
            wanted = "true or false" if options[name] is bool else "a number or a string"
            mistakes.append(f"{key} in {file} must be {wanted}, got {value!r}")
        else:
            values[name] = value
    if mistakes:
        raise ConfigFileError("\n".join(mistakes))
    return values


def _parse(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.expanduser().read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigFileError(f"--config can't be {str(file)!r}: {error.strerror}") from error
    except ValueError as error:  # neither UTF-8, nor TOML
        raise ConfigFileError(f"{file} is not a TOML file: {error}") from error


def _unknown(file: Path, key: str, value: Any, options: Collection[str]) -> str:
    if key == "config":
        return f"{file} has the key config, which only the command line and the environment have"
    near = nearest(key.lower().replace("-", "_"), options, _CLOSE)
    if key.startswith("no_") and isinstance(value, bool) and key.removeprefix("no_") in options:
        near = f"{key.removeprefix('no_')} = {str(not value).lower()}"
    kind = "table" if isinstance(value, dict) else "key"
    hint = f". Did you mean {near}?" if near else "; see thingsvision-server --help"
    return f"{file} has the {kind} {key}, which is not an option{hint}"
