"""The M code calls only functions that MATLAB R2021a has; Octave and newer releases have others."""

from __future__ import annotations

import re
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import tomllib

from support.checkout import CHECKOUT
from support.octave import FOLDER, SCRIPTS

FILES = sorted((FOLDER / "+thingsvision").rglob("*.m"))

R2021A = frozenset((SCRIPTS / "r2021a.txt").read_text().split())
"""Functions that the M code calls; each has its page in the documentation of R2021a."""

KEYWORDS = {
    "break", "case", "catch", "classdef", "continue", "else", "elseif", "end", "for",
    "function", "handle", "if", "methods", "otherwise", "private", "Access", "SetAccess",
    "properties", "return", "switch", "try", "while",
}  # fmt: skip


def without_texts(code: str) -> str:
    """Return code without strings and comments; a quote behind a value transposes it."""
    return re.sub(r"(?<![\w)\]}.'])'(?:[^'\n]|'')*'|%[^\n]*", " ", code)


def called_names(code: str) -> set[str]:
    """Return the names in code that are neither variables, fields, nor its own functions."""
    plain = re.sub(r"\bthingsvision(\.\w+)+|\bpy(\.\w+)+", " ", without_texts(code))
    plain = plain.replace("containers.Map", "containers_Map")
    names = set(re.findall(r"(?<![\w.])@?([A-Za-z]\w*)", re.sub(r"\.(\w+)", " ", plain)))
    own = set(re.findall(r"function\s+(?:[^=(\n]*=\s*)?(\w+)", plain))
    assigned = r"^\s*(\w+)\s*(?:\([^=\n]*\)|\{[^=\n]*\}|\.\w+|\.\()*\s*=(?!=)"
    variables = set(re.findall(assigned, plain, re.MULTILINE))
    for left in re.findall(r"\[([^\[\]\n]*)\]\s*=(?!=)", plain):
        variables |= set(re.findall(r"\w+", left))
    for found in re.findall(r"\bfor\s+(\w+)|\bcatch[ \t]+(\w+)|@\(([^)]*)\)", plain):
        variables |= {name for part in found for name in re.findall(r"\w+", part)}
    for line in re.findall(r"^\s*function\s+(.*)$", plain, re.M):
        variables |= set(re.findall(r"\w+", line))
    for block in re.findall(r"properties[^\n]*\n(.*?)\n\s*end", plain, re.S):
        variables |= set(re.findall(r"^\s*(\w+)", block, re.M))
    found = names - own - variables - KEYWORDS
    return {name.replace("containers_Map", "containers.Map") for name in found}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_functions_of_r2021a_are_called(path: Path) -> None:
    assert called_names(path.read_text()) <= R2021A


def test_the_check_finds_what_octave_alone_has() -> None:
    code = "x = glob('a');\ny = strjust(x, 'left'); % endsWith\nz.isrow = fieldnames(y)';\n"
    assert called_names(code) == {"glob", "strjust", "fieldnames"}
    assert not called_names(code) <= R2021A


def test_every_file_has_a_help_text() -> None:
    for path in FILES:
        second = path.read_text().splitlines()[1].strip()
        assert re.match(rf"% ?{path.stem.upper()}\s+\w", second), path


def test_the_archive_has_the_folder_and_the_wheel_has_not(tmp_path: Path) -> None:
    sys.path.insert(0, str(CHECKOUT / "scripts"))
    try:
        archive = import_module("matlab_archive").write_archive(tmp_path)
    finally:
        sys.path.pop(0)
    with zipfile.ZipFile(archive) as opened:
        names = set(opened.namelist())
    assert {"thingsvision-matlab/+thingsvision/Client.m", "thingsvision-matlab/LICENSE"} <= names
    assert len([name for name in names if "+internal" in name]) == len(FILES) - 2
    packages = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    built = packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert not any((CHECKOUT / package / "+thingsvision").exists() for package in built)
    assert "client/thingsvision_client" in built
