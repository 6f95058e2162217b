"""Reads the settings, and says what is wrong with them in a line each."""

from __future__ import annotations

import os
import sys
from typing import Any

from pydantic import ValidationError
from pydantic_settings import CliApp

from .config_file import ConfigFileError
from .environment import PREFIX, find_mistakes, nearest, own_variables
from .options import Settings

_ALWAYS = ("help", "version")


def read_settings() -> Settings:
    """Return the settings of this process; exit with a line per mistake.

    A flag of the command line counts more than a variable of the environment, which counts more
    than the file (`--config`).
    """
    try:
        return parse_settings(sys.argv[1:])
    except ValueError as error:
        lines = str(error).splitlines()
        sys.exit("\n".join(f"thingsvision-server: {line}" for line in lines))


def parse_settings(arguments: list[str]) -> Settings:
    """Return the settings of a command line and the environment.

    Raises ValueError, with a line per mistake.
    """
    names = [name.upper() for name in Settings.model_fields]
    mistakes = [*find_mistakes(os.environ, names), *_unknown_flags(arguments)]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ConfigFileError:
        raise
    except ValidationError as error:
        mistakes = [_sentence(one, arguments) for one in error.errors()]
        raise ValueError("\n".join(mistakes)) from error


def _unknown_flags(arguments: list[str]) -> list[str]:
    flags = [name.replace("_", "-") for name in Settings.model_fields]
    switches = [
        f"no-{name.replace('_', '-')}"
        for name, field in Settings.model_fields.items()
        if field.annotation is bool
    ]
    valid = [*flags, *switches, *_ALWAYS]
    mistakes = []
    for argument in arguments:
        flag = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and flag and flag not in valid:
            near = nearest(flag.replace("_", "-"), valid, 0.6)
            hint = f". Did you mean --{near}?" if near else "; see thingsvision-server --help"
            mistakes.append(f"--{flag} is not an option{hint}")
    return mistakes


def _sentence(error: Any, arguments: list[str]) -> str:
    """Return the sentence for an invalid value, with the place that it is from."""
    name = str(error["loc"][0])
    flag = f"--{name.replace('_', '-')}"
    spellings = (flag, f"--no-{name.replace('_', '-')}")
    is_flag = any(one.partition("=")[0] in spellings for one in arguments)
    if is_flag:
        place = ""
    elif name.upper() in own_variables(os.environ):
        place = f" ({PREFIX}{name.upper()} in the environment)"
    else:
        place = " (in the file of --config)"
    reason = error["msg"].removeprefix("Value error, ")
    return f"{flag}{place} can't be {str(error['input'])!r}: {reason}"
