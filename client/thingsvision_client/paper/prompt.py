"""Ask at the terminal which module to extract, completing names with TAB."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from ..errors import InvalidRequestError, NotExtractableError, UnknownModuleError
from ..values.records import ModuleInfo

QUESTION = "Enter module name for which you would like to extract features: "

_BEYOND = re.compile(r"(?<!^)[./].*")
"""Everything from the second part of a path on."""

_CALL = re.compile(r"@(t=\d+|all)$")
"""Ending of the name of one call of a module that runs several times."""

_MOST_NEAR = 5


def ask_module(modules: Sequence[ModuleInfo]) -> str:
    """Return the name that the user types, or the first line of piped input.

    A terminal asks again until the name is that of an extractable module, and completes it with
    TAB, one part of the path at a time. Otherwise raises UnknownModuleError (with near matches),
    NotExtractableError, or InvalidRequestError if there is nothing to read.
    """
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    with _tab_completion([module.name for module in modules], is_terminal):
        while True:
            name = _line()
            try:
                find_module(name, modules)
            except InvalidRequestError as error:
                if not is_terminal:
                    raise
                print(error)
            else:
                return name


def find_module(name: str, modules: Iterable[ModuleInfo]) -> ModuleInfo:
    """Return the module of that name, or the one whose call is named.

    Raises UnknownModuleError with near matches, and NotExtractableError.
    """
    by_name = {module.name: module for module in modules if module.name}
    module = by_name.get(name) or by_name.get(_CALL.sub("", name))
    if module is None:
        near = ", ".join(get_close_matches(name, by_name, n=_MOST_NEAR))
        fault = f"There is no module {name!r}"
        raise UnknownModuleError(f"{fault}; near: {near}." if near else f"{fault}.", subject=name)
    if not module.extractable:
        raise NotExtractableError(f"{name} can't be extracted: {module.reason}.", subject=name)
    return module


def completions(text: str, names: Iterable[str]) -> list[str]:
    """Return the names' beginnings that start with `text`, up to the next part of their path."""
    rests = [name[len(text) :] for name in names if name and name.startswith(text)]
    return list(dict.fromkeys(text + _BEYOND.sub("", rest) for rest in rests))


def _line() -> str:
    try:
        return input(QUESTION).strip()
    except (EOFError, OSError, RuntimeError) as error:  # closed, captured or missing
        raise InvalidRequestError(
            "There is no input to read a module's name from: pass module_name='...' to "
            "extract_features instead of the result of model.show()."
        ) from error


@contextmanager
def _tab_completion(names: Sequence[str], is_terminal: bool) -> Iterator[None]:
    """Let TAB complete names in the block, and restore the previous settings."""
    try:
        import readline
    except ImportError:  # not on every system
        is_terminal = False
    if not is_terminal:
        yield
        return

    def complete(text: str, state: int) -> str | None:
        found = completions(text, names)
        return found[state] if state < len(found) else None

    is_libedit = "libedit" in (readline.__doc__ or "")  # as on macOS
    before = readline.get_completer(), readline.get_completer_delims()
    readline.set_completer(complete)
    readline.set_completer_delims("")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    try:
        yield
    finally:
        readline.set_completer(before[0])
        readline.set_completer_delims(before[1])
        if before[0] is None and not is_libedit:
            readline.parse_and_bind("tab: self-insert")  # Python's default
