"""Broken features to compare: status and sentence say so, and the server still works."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from support.bad_requests import GOOD, INVALID, check
from support.stock_calls import StockCaller
from thingsvision_proto.v1 import thingsvision_pb2 as pb


def table(**columns: Any) -> pa.Table:
    return pa.table({"image": pa.array(["a", "b", "c"]), **columns})


def vectors(values: Any, kind: Any = None) -> pa.Array:
    return pa.array(values, pa.list_(kind or pa.float32(), 2))


def ipc(content: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content)
    return file.getvalue()


def compared(*frames: bytes, metric: Any = pb.METRIC_EUCLIDEAN) -> list[Any]:
    header = pb.ComputeRDMHeader(metric=metric)
    sent = [pb.ArrowFrame(index=i, arrow_ipc=frame) for i, frame in enumerate(frames)]
    return [
        pb.ComputeRDMRequest(header=header),
        *(pb.ComputeRDMRequest(features=frame) for frame in sent),
    ]


def permuted() -> pa.Table:
    kind = pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[1, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(18, np.float32)), 6)
    return table(permuted=pa.ExtensionArray.from_storage(kind, storage))


PAIRS = [[1, 2], [3, 4], [5, 7]]
FINE = ipc(table(x=vectors(PAIRS)))

FEATURES: dict[str, tuple[Callable[[], list[Any]], tuple[str, ...]]] = {
    "null in a row": (
        lambda: compared(ipc(table(x=vectors([[1, 2], [3, None], [5, 6]])))),
        ("'x'",),
    ),
    "null row": (lambda: compared(ipc(table(x=vectors([[1, 2], None, [5, 6]])))), ("'x'", "null")),
    "null name": (
        lambda: compared(ipc(pa.table({"image": pa.array(["a", None, "c"]), "x": vectors(PAIRS)}))),
        ("'image'", "null"),
    ),
    "whole numbers": (
        lambda: compared(ipc(table(x=vectors(PAIRS, pa.int32())))),
        ("'x'", "int32", "float32 or float64"),
    ),
    "float16": (
        lambda: compared(ipc(table(x=vectors(np.float16(PAIRS).tolist(), pa.float16())))),
        ("'x'", "float32 or float64"),
    ),
    "rows of any length": (
        lambda: compared(ipc(table(x=pa.array(PAIRS)))),
        ("'x'", "list", "FixedSizeList"),
    ),
    "single numbers": (lambda: compared(ipc(table(x=pa.array([1.0, 2, 3])))), ("'x'", "double")),
    "permuted tensors": (lambda: compared(ipc(permuted())), ("'permuted'", "C order")),
    "no column of names": (
        lambda: compared(ipc(pa.table({"x": vectors(PAIRS)}))),
        ("'image'", "utf8"),
    ),
    "no column of features": (lambda: compared(ipc(table())), ("a column besides",)),
    "two columns of one name": (
        lambda: compared(
            ipc(
                pa.Table.from_arrays(
                    [pa.array(["a", "b", "c"]), vectors(PAIRS), vectors(PAIRS)], ["image", "x", "x"]
                )
            )
        ),
        ("'x'", "different names"),
    ),
    "no rows": (lambda: compared(ipc(table(x=vectors(PAIRS)).slice(0, 0))), ("at least one row",)),
    "no frames": (lambda: compared(), ("Arrow",)),
    "junk": (lambda: compared(b"junk" * 1000), ("Arrow",)),
    "junk after the schema": (lambda: compared(FINE[:300], b"junk" * 1000), ("Arrow",)),
    "broken off": (lambda: compared(FINE[:-60]), ("Arrow",)),
    "frame left out": (
        lambda: [
            *compared(FINE[:100]),
            pb.ComputeRDMRequest(features=pb.ArrowFrame(index=2, arrow_ipc=FINE[100:])),
        ],
        ("index 1", "got 2"),
    ),
    "an image among the frames": (
        lambda: [
            *compared(FINE[:100]),
            pb.ComputeRDMRequest(image=pb.Image(name="a", encoded=GOOD)),
        ],
        ("'image'", "'features'"),
    ),
    "no metric": (
        lambda: compared(FINE, metric=pb.METRIC_UNSPECIFIED),
        ("correlation", "cosine", "euclidean", "gaussian"),
    ),
    "unknown metric": (
        lambda: compared(FINE, metric=42),
        ("42", "correlation", "cosine", "euclidean", "gaussian"),
    ),
    "unknown element type": (
        lambda: [pb.ComputeRDMRequest(header=pb.ComputeRDMHeader(metric=1, element_type=9))],
        ("9", "FLOAT32", "FLOAT64"),
    ),
    "empty stream": (list, ("is empty",)),
    "no header": (lambda: compared(FINE)[1:], ("'features'", "header")),
    "header twice": (lambda: compared()[:1] * 2, ("a second header",)),
}


@pytest.mark.parametrize("case", FEATURES)
def test_bad_features_are_refused(stock: StockCaller, case: str) -> None:
    make, words = FEATURES[case]
    check(stock.refusal("ComputeRDM", make()), INVALID, "InvalidRequestError", words)


def test_the_features_without_a_fault_are_compared(stock: StockCaller) -> None:
    parts = [reply.WhichOneof("part") for reply in stock.call("ComputeRDM", compared(FINE))]
    assert parts[-1] == "trailer"
