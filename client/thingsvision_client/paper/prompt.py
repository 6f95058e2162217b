"""Asks at the terminal which module to extract, and completes names with TAB; calls no server."""

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
"""All from the second part of a path on."""

_CALL = re.compile(r"@(t=\d+|all)$")
"""Ends the name of one call of a module that runs several times."""

_MOST_NEAR = 5


def ask_module(modules: Sequence[ModuleInfo]) -> str:
    """Return the name that is typed, or the first line of what is piped in.

    A terminal is asked again until the name is that of a module that can be extracted, and
    completes it with TAB, a part of the path at a time. Elsewhere UnknownModuleError (with near
    matches) or NotExtractableError is raised; InvalidRequestError where nothing can be read.
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
    """Return the module of that name, or that whose call is named.

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
    """Return what names begin with `text`, up to the end of the next part of their path."""
    rests = [name[len(text) :] for name in names if name and name.startswith(text)]
    return list(dict.fromkeys(text + _BEYOND.sub("", rest) for rest in rests))


def _line() -> str:
    try:
        return input(QUESTION).strip()
    except (EOFError, OSError, RuntimeError) as error:  # closed, captured, or none at all
        raise InvalidRequestError(
            "There is nobody to ask for a module's name: pass module_name='...' to "
            "extract_features in the place of what model.show() returns."
        ) from error


@contextmanager
def _tab_completion(names: Sequence[str], is_terminal: bool) -> Iterator[None]:
    """Let TAB complete names; what was set before is set again at the end."""
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
            readline.parse_and_bind("tab: self-insert")  # as Python starts
