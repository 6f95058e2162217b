"""Errors in MATLAB count from 1 and name what MATLAB has; what a sentence quotes stays."""

from __future__ import annotations

import pytest

from thingsvision_client.errors import NoServerError
from thingsvision_client.matlab.sentences import in_matlab
from thingsvision_client.rpc.address import resolve_address

SENTENCES = {
    "pass the authority's file, ca='ca.pem', or a token: pass token=...": (
        "pass the authority's file, 'Ca', 'ca.pem', or a token: pass 'Token', '...'"
    ),
    "encrypt with server='grpcs://...'; plain_token=True sends it; pass cert=..., key=...": (
        "encrypt with an address grpcs://...; 'PlainToken', true sends it; pass 'Cert', '...', "
        "'Key', '...'"
    ),
    "1 of 2 images can't be used: image 0 ('image 0.jpg') is a text.": (
        "1 of 2 images can't be used: image 1 ('image 0.jpg') is a text."
    ),
    'image 7 was "it\'s image 7", and there are only 7 now': (
        'image 8 was "it\'s image 7", and there are only 7 now'
    ),
    "`units` of module 'fc' must be from 0 to 9 (it has 10 units, 10), got 10": (
        "`Units` of module 'fc' must be from 1 to 10 (it has 10 units, 10), got 11"
    ),
    "`pool_axes` of module 'x' must be different numbers from 0 to 2 (1 x 2), got [1, 6]": (
        "`PoolAxes` of module 'x' must be different numbers from 1 to 3 (1 x 2), got [2, 7]"
    ),
    "`batch_size` must be a whole number, got 'batch_size' (str).": (
        "`BatchSize` must be a whole number, got 'batch_size' (text)."
    ),
    "repeat the call, or leave them out with on_error='skip' (--on-error skip).": (
        "repeat the call, or leave them out with 'OnError', 'skip'."
    ),
    "a.mat has x: choose another folder or name, or replace it with overwrite=True (in a shell "
    "--overwrite).": "a.mat has x: choose another folder or name, or remove it.",
    "Leave out token_extraction, or request file_names": (
        "Leave out TokenExtraction, or request file_names"
    ),
    "Put the file there, or upload your copy of it (model_path)": (
        "Put the file there, or upload your copy of it (c.upload)"
    ),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_is_rewritten(sentence: str) -> None:
    assert in_matlab(sentence) == SENTENCES[sentence]


def test_no_python_is_left_where_no_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THINGSVISION_SERVER", raising=False)
    with pytest.raises(NoServerError) as raised:
        resolve_address("x:1/v1")
    sentence = in_matlab(str(raised.value))
    assert "thingsvision.Client('host:port')" in sentence
    assert "thingsvision_client" not in sentence
    assert "local_server" not in sentence
