"""Rewrites errors and warnings for a shell: options in the place of Python's arguments."""

from __future__ import annotations

from ..rpc.address import HOW_TO_NAME, SERVER_VARIABLE

_HINTS = (
    (
        HOW_TO_NAME,
        f"set {SERVER_VARIABLE}=host:port, or pass --server host:port; `thingsvision-server` "
        "starts one",
    ),
    ("overwrite=True (in a shell --overwrite)", "--overwrite"),
    ("on_error='skip' (--on-error skip)", "--on-error skip"),
    ("(over_quota=True)", "(--over-quota)"),
    ("`share` must be left out without `model_path`", "--share-weights needs --model-path"),
    ("on_error='skip'", "--on-error skip"),
    ("flatten_acts=True (--flatten-acts)", "--flatten-acts"),
    ("upload your copy of it (model_path)", "upload your copy of it (--model-path)"),
    ("Leave out token_extraction", "Leave out --token-extraction"),
    ("ca='ca.pem'", "--ca ca.pem"),
    ("cert=..., key=...", "--cert FILE --key FILE"),
    ("pass token=...", "pass --token-file FILE"),
    ("server='grpcs://...'", "--server grpcs://..."),
    ("; plain_token=True sends it anyway", ""),
)
"""What Python writes, and what a shell writes for it."""


def in_shell(sentence: str) -> str:
    """Return a sentence with the options of commands."""
    for words, shell in _HINTS:
        sentence = sentence.replace(words, shell)
    return sentence
