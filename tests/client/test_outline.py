from dataclasses import replace

import pytest

from support.sent_images import messages
from thingsvision_client.commands.tables import model_lines
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.images.texts import queue_texts, text_tower
from thingsvision_client.library.outline import outline
from thingsvision_client.values.records import ModelInfo, ModuleInfo, PretrainedWeights

MODULE = ModuleInfo(
    name="V2.output",
    type="Identity",
    attributes="",
    depth=2,
    parent="V2",
    parameter_count=0,
    output_shape=(128, 28, 28),
    output_dtype="float32",
    call_count=1,
    extractable=True,
    reason="",
    modality="image",
    prefix_token_count=None,
)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "    V2.output: Identity() -> 128 x 28 x 28"),
        ({"call_count": 5}, "128 x 28 x 28, last of 5 calls (@t=0 to @t=4, @all)"),
        ({"output_shape": (201, 64), "prefix_token_count": 5}, "tokens: 5 special, 196 of patches"),
        ({"modality": "text", "output_shape": (64,)}, "V2.output: Identity() -> 64, of texts"),
        ({"extractable": False, "reason": "why"}, "Identity()  [not extractable: why]"),
        ({"name": "", "depth": 0, "output_shape": ()}, "(model): Identity() -> scalar"),
    ],
)
def test_a_line_of_the_listing_says_what_can_be_extracted(
    changes: dict[str, object], line: str
) -> None:
    assert outline([replace(MODULE, **changes)]).endswith(line)


def sees(name: str, modality: str, extractable: bool = True) -> ModuleInfo:
    depth = name.count(".") + 1 if name else 0
    parent = name.rpartition(".")[0]
    return replace(
        MODULE, name=name, modality=modality, depth=depth, parent=parent, extractable=extractable
    )


def test_the_text_tower_contains_every_module_that_takes_texts() -> None:
    towers = [
        sees("eyes", "image"),
        sees("words", "text"),
        sees("words.blocks", "image", extractable=False),  # a list, which never runs itself
        sees("words.blocks.0", "text"),
        sees("", "image", extractable=False),
    ]
    assert text_tower(towers) == "words"
    assert text_tower([sees("", "text"), sees("a", "text"), sees("a.b", "text")]) == ""
    with pytest.raises(InvalidRequestError, match="name one of 'words', 'more'"):
        text_tower([*towers, sees("more", "text")])
    with pytest.raises(InvalidRequestError, match="takes only images"):
        text_tower([sees("", "image"), sees("words", "image")])


def test_texts_are_named_by_themselves_or_by_the_user() -> None:
    queue = queue_texts(["a cat", ("dog", "a dog")])
    assert [(m.name, m.text) for m in messages(queue)] == [("a cat", "a cat"), ("dog", "a dog")]
    assert queue_texts("one").count == 1
    with pytest.raises(InvalidRequestError, match="no texts"):
        queue_texts([])
    with pytest.raises(TypeError, match="b'bytes' is not a text"):
        queue_texts([b"bytes"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="is a text that is not UTF-8"):
        list(messages(queue_texts(["\udce9"])))


def test_models_are_columns() -> None:
    weights = (
        PretrainedWeights("B", True, "present", None),
        PretrainedWeights("A", False, "missing", None),
    )
    known = ModelInfo("timm", "vit", weights, "pt", "classification", 1234567, (3, 224, 224))
    lines = list(model_lines([known, ModelInfo("keras", "longer_name", (), "tf", "", 0, ())]))
    split = [line.split("  ") for line in lines]
    assert [[cell.strip() for cell in row if cell] for row in split] == [
        ["model", "task", "parameters", "input", "weights (* default)"],
        ["timm/vit", "classification", "1,234,567", "3 x 224 x 224", "B* (present), A (missing)"],
        ["keras/longer_name", "-", "-", "-", "-"],
    ]
    assert lines[1].index("1,234") == lines[0].index("parameters")
