"""Rewrites errors and warnings for users of MATLAB, who count from 1 and write MATLAB's names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields

from ..client import Client
from ..rpc.address import HOW_TO_NAME
from ..values.options import ExtractArguments
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.reductions import Reduction

_NAMED = re.compile(r"""(?<!\w)(?:'[^']*'|"[^"]*")(?!\w)""")
"""What a sentence quotes, such as the name of a file: it stays as it is."""

_PLACE = re.compile(r"\b(image|row) (\d+)\b")
_FROM_ZERO = re.compile(r"(`(?:units|pool_axes)` .*?)from 0 to (\d+)(.*got )(.*)", re.DOTALL)
_KINDS = {"str": "text", "float": "number", "int": "number"}

_HOW_TO_NAME = (
    "give it, thingsvision.Client('host:port'), or "
    "setenv('THINGSVISION_SERVER', 'host:port'); `thingsvision-server` starts one"
)

_HINTS: tuple[tuple[str, str], ...] = (
    (re.escape(HOW_TO_NAME), _HOW_TO_NAME),
    (r"Client\(\)\.models\(name_glob=('[^']*')\)", r"c.models('', \1)"),
    (
        r"thingsvision_client\.connect\(('[^']*'), proxy=False\), which sets gRPC's option "
        r"grpc\.enable_http_proxy=0 \(in a shell --no-proxy\)",
        r"thingsvision.Client(\1, 'Proxy', false)",
    ),
    (r"proxy=False says so", "'Proxy' is false"),
    (r"\bca='ca\.pem'", "'Ca', 'ca.pem'"),
    (r"\bcert=\.\.\., key=\.\.\.", "'Cert', '...', 'Key', '...'"),
    (r"\bpass token=\.\.\.", "pass 'Token', '...'"),
    (r"\bserver='grpcs://\.\.\.'", "an address grpcs://..."),
    (r"\bplain_token=True\b", "'PlainToken', true"),
    (r"on_error='skip'( \(--on-error skip\))?", "'OnError', 'skip'"),
    (r"replace it with overwrite=True \(in a shell --overwrite\)", "remove it"),
    (r"The features of the other images are in this error's `result`; ", ""),
    (r"The rows of the other images came before; ", ""),
    (r"upload your copy of it \(model_path\)", "upload your copy of it (c.upload)"),
    (r" Choose one: model_parameters=\{'part': '[^']*'\} of get_extractor, or ", " Choose one: "),
    (r"; model_parameters=\{'part': ('[^']*')\} of get_extractor says so", ""),
    (r"model_parameters=\{'part': \.\.\.\} of get_extractor", "':PART' after the model's SHA-256"),
    (r"`Client\.rdm`", "c.rdm"),
    (r"\bor None\b", "or []"),
    (r"; None (leaves|is|keeps|means|lets)", r"; [] \1"),
    (r" The order of the arguments is [^.]*\.", ""),
)
"""What only Python or a shell can do, and what MATLAB writes for it."""


def option_name(name: str) -> str:
    """Return MATLAB's name of an option of Python, such as `BatchSize`."""
    return "".join(part.capitalize() for part in name.split("_"))


def _known_names() -> set[str]:
    of_client = inspect.signature(Client.__init__).parameters
    kinds = (Reduction, Preprocessing, PreprocessingOverrides)
    of_kinds = {one.name for kind in kinds for one in fields(kind)}
    return {*of_client, *ExtractArguments.__annotations__, *of_kinds, "metric"} - {"self"}


_NAMES = _known_names()


def in_matlab(sentence: str) -> str:
    """Return a sentence with places from 1, MATLAB's names of options, and what MATLAB can do."""
    sentence = _FROM_ZERO.sub(_from_one, sentence)
    for pattern, words in _HINTS:
        sentence = re.sub(pattern, words, sentence)
    sentence = re.sub(r"`(\w+)`", lambda found: f"`{_name(found[1])}`", sentence)
    return _outside_of_quotes(sentence, _plain)


def _from_one(found: re.Match[str]) -> str:
    got = re.sub(r"-?\d+", lambda number: str(int(number[0]) + 1), found[4])
    return f"{found[1]}from 1 to {int(found[2]) + 1}{found[3]}{got}"


def _plain(text: str) -> str:
    text = _PLACE.sub(lambda found: f"{found[1]} {int(found[2]) + 1}", text)
    text = re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda found: _name(found[0]), text)
    return re.sub(r" \((str|float|int)\)", lambda found: f" ({_KINDS[found[1]]})", text)


def _name(name: str) -> str:
    return option_name(name) if name in _NAMES else name


def _outside_of_quotes(sentence: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for named in _NAMED.finditer(sentence):
        parts += [change(sentence[end : named.start()]), named[0]]
        end = named.end()
    return "".join([*parts, change(sentence[end:])])
