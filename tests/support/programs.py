"""Finds programs of other projects that tests run."""

from __future__ import annotations

import os
import shutil

import pytest

_OF_SYSTEMS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Folders of daemons, which are not on the path of every user."""


def find_program(name: str, *, whence: str = "", required: str = "") -> str:
    """Return the path of a program; skip the test without it.

    If THINGSVISION_REQUIRE_<NAME> is set, or <REQUIRED> where that is given, the test fails
    instead.
    """
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_OF_SYSTEMS))
    if found is None:
        variable = f"THINGSVISION_REQUIRE_{required or name.upper()}"
        assert not os.environ.get(variable), f"{name} is not installed"
        pytest.skip(f"needs {name}{whence}")
    return found
