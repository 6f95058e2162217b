"""Reference RDMs that carry the names of images: matched by name, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import RDMs as ToolboxRDMs

from thingsvision_client import Client, compute_rdm, correlate_rdms, get_cka
from thingsvision_client.analysis import compare_rdms
from thingsvision_client.analysis.references import as_references
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.figures.panel_values import read_panels
from thingsvision_client.labels import find_rows, remember_rows
from thingsvision_client.paper.comparison import _references
from thingsvision_client.rpc.rdms import RDMs

COUNT = 9
NAMES = [f"{kind}/{number}.png" for kind in ("cat", "dog", "eel") for number in (1, 2, 3)]
ORDER = np.random.default_rng(5).permutation(COUNT)
OTHERS = [NAMES[row] for row in ORDER]
"""The names in another order."""

ANOTHER_ORDER = "in another order: they are matched by the names"


def shuffled(rdm: np.ndarray) -> np.ndarray:
    return rdm[np.ix_(ORDER, ORDER)]


@pytest.fixture
def rdms(client: Client) -> RDMs:
    features = np.random.default_rng(0).normal(size=(COUNT, 20))
    return client.rdm_of(features, NAMES, dtype="float64")


@pytest.fixture
def rdm(rdms: RDMs) -> np.ndarray:
    return rdms.rdms["features"]


def frame(rdm: np.ndarray, names: Any = OTHERS) -> pd.DataFrame:
    return pd.DataFrame(rdm, index=names, columns=names)


def data_array(rdm: np.ndarray, **coordinates: Any) -> xr.DataArray:
    return xr.DataArray(rdm, coordinates, ["image", "other"])


def toolbox(rdm: np.ndarray, **descriptors: Any) -> ToolboxRDMs:
    return ToolboxRDMs(rdm[None], pattern_descriptors=descriptors)


def categories(names: list[str]) -> list[str]:
    return [name.partition("/")[0] for name in names]


LABELLED: dict[str, Callable[[np.ndarray], Any]] = {
    "table": frame,
    "table, index alone": lambda rdm: pd.DataFrame(rdm, index=OTHERS),
    "table, columns alone": lambda rdm: pd.DataFrame(rdm, columns=OTHERS),
    "table of stems": lambda rdm: frame(rdm, [name.removesuffix(".png") for name in OTHERS]),
    "table of Windows": lambda rdm: frame(rdm, [rf"C:\set\{n}".replace("/", "\\") for n in OTHERS]),
    "table of paths": lambda rdm: frame(rdm, [Path(name) for name in OTHERS]),
    "table of bytes": lambda rdm: frame(rdm, [name.encode() for name in OTHERS]),
    "table of levels": lambda rdm: frame(
        rdm, pd.MultiIndex.from_tuples([tuple(name.split("/")) for name in OTHERS])
    ),
    "table with a column of names": lambda rdm: pd.DataFrame(rdm, columns=OTHERS).assign(
        picture=OTHERS
    ),
    "table with names and categories": lambda rdm: pd.DataFrame(rdm, columns=OTHERS).assign(
        picture=OTHERS, kind=categories(OTHERS)
    ),
    "xarray": lambda rdm: data_array(rdm, image=OTHERS, other=OTHERS),
    "xarray, one coordinate": lambda rdm: data_array(rdm, image=OTHERS),
    "xarray, beside the axes": lambda rdm: data_array(
        rdm, stimulus=("image", OTHERS), group=("image", categories(OTHERS))
    ),
    "xarray, names in two axes": lambda rdm: data_array(
        rdm, stimulus=(("image", "other"), np.array([OTHERS] * COUNT).T)
    ),
    "xarray, subjects last": lambda rdm: xr.DataArray(
        np.stack([rdm, rdm], -1), {"a": OTHERS, "b": OTHERS}, ["a", "b", "subject"]
    ),
    "xarray, a variable": lambda rdm: xr.Dataset({"it": data_array(rdm, image=OTHERS)}),
    "toolbox": lambda rdm: toolbox(rdm, image=OTHERS),
    "toolbox, another descriptor": lambda rdm: toolbox(
        rdm, category=categories(OTHERS), stimulus=OTHERS, rating=np.linspace(0, 1, COUNT).tolist()
    ),
    "subjects with other orders": lambda rdm: [
        frame(rdm),
        toolbox(rdm[::-1, ::-1], x=OTHERS[::-1]),
    ],
}


@pytest.mark.parametrize("kind", LABELLED)
def test_whatever_carries_names_is_matched_by_name(kind: str, rdms: RDMs, rdm: np.ndarray) -> None:
    given = LABELLED[kind](shuffled(rdm))
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        found = compare_rdms(rdms, given, bootstrap=0, noise_ceiling=False)
    np.testing.assert_allclose(found.scores[0].by_subject, 1, rtol=1e-12)
    facts = next(iter(found.references.values()))
    assert facts["rows"].startswith("by its ")


@pytest.mark.parametrize(
    "kind", [kind for kind in LABELLED if "variable" not in kind and "subjects" not in kind]
)
def test_correlations_and_figures_match_by_name_as_well(kind: str, rdm: np.ndarray) -> None:
    other, ours = LABELLED[kind](shuffled(rdm)), frame(rdm, NAMES)
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        assert correlate_rdms(ours, other) == pytest.approx(1)
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        panels = read_panels({"ours": rdm, "other": other}, NAMES)
    np.testing.assert_allclose(panels.values["other"], rdm, rtol=1e-15)


def test_names_in_the_order_of_the_images_need_no_warning(rdms: RDMs, rdm: np.ndarray) -> None:
    for given in (frame(rdm, NAMES), toolbox(rdm, stimulus=NAMES), rdms, {"it": rdms}):
        found = compare_rdms(rdms, given, correlation="pearson", bootstrap=0)
        assert found.scores[0].score == pytest.approx(1)


def test_numbers_that_count_the_rows_are_positions(rdms: RDMs, rdm: np.ndarray) -> None:
    counts = [str(number) for number in range(COUNT)]
    for given in (
        pd.DataFrame(rdm),
        frame(rdm, counts),
        frame(rdm, np.arange(COUNT, dtype=float)),
        data_array(rdm, image=np.arange(COUNT)),
        toolbox(rdm, category=categories(NAMES)),
        frame(rdm, [f"row_{number:06d}" for number in range(COUNT)]),
    ):
        found = compare_rdms(rdms, given, correlation="pearson", bootstrap=0)
        assert found.scores[0].score == pytest.approx(1)
        assert "rows" not in found.references["reference"]


@pytest.mark.parametrize("style", ["{0}", "{0}.png", "{0:03d}.png", "set/{0:03d}.jpg"])
def test_numbers_are_names_if_the_images_are_called_so(style: str, rdm: np.ndarray) -> None:
    images = [style.format(number) for number in ORDER]
    reference = as_references(pd.DataFrame(rdm))[0]
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        found = reference.of_images(images)
    np.testing.assert_array_equal(found.rdms[0], shuffled(rdm))
    with pytest.raises(InvalidRequestError, match="has 9 images, but there are 8"):
        reference.of_images(images[1:])  # 1, 2, ... may as well be called so


def test_a_table_that_was_reordered_is_no_longer_in_the_order_of_the_images(
    rdms: RDMs, rdm: np.ndarray
) -> None:
    table = pd.DataFrame(rdm)
    moved = table.iloc[ORDER, ORDER]
    brain = toolbox(rdm)
    brain.reorder(ORDER)
    for given in (moved, brain, table.iloc[1:, 1:]):
        with pytest.raises(InvalidRequestError, match=r"pass the values alone, as an array"):
            compare_rdms(rdms, given, bootstrap=0)
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        assert correlate_rdms(table, moved) == pytest.approx(1)


def refused() -> list[tuple[str, Callable[[np.ndarray], Any], str]]:
    strange = [f"x{number}" for number in range(COUNT)]
    return [
        ("other names", lambda rdm: frame(rdm, strange), "no rows for 9 of the images"),
        ("other names of xarray", lambda rdm: data_array(rdm, image=strange), "no rows for 9"),
        ("other names of rsatoolbox", lambda rdm: toolbox(rdm, label=strange), "'label'"),
        ("one name missing", lambda rdm: frame(rdm, [*NAMES[:-1], "x"]), "'eel/3.png'"),
        ("categories", lambda rdm: frame(rdm, categories(NAMES)), "several rows called 'cat'"),
        ("repeated images", lambda rdm: toolbox(rdm, image=[NAMES[0], *NAMES[:-1]]), "called"),
        ("rows alone reordered", lambda rdm: pd.DataFrame(rdm, OTHERS, NAMES), "different orders"),
        ("columns of others", lambda rdm: pd.DataFrame(rdm, NAMES, strange), "different names"),
        ("orders of xarray",
         lambda rdm: data_array(rdm, image=OTHERS, other=NAMES), "different orders"),
        ("coordinates of xarray",
         lambda rdm: data_array(rdm, a=("image", OTHERS), b=("other", NAMES)), "in two orders"),
        ("two descriptors", lambda rdm: toolbox(rdm, a=NAMES, b=OTHERS), "in two orders"),
        ("names of pairs",
         lambda rdm: data_array(
             rdm, pair=(("image", "other"), [[f"{a} {b}" for b in NAMES] for a in NAMES])
         ), "Coordinate 'pair' must have a name per row"),
        ("numbers in another order",
         lambda rdm: frame(rdm, ORDER), "numbers from 0 to 8 in another order in its index"),
        ("ratings beside the RDM",
         lambda rdm: pd.DataFrame(rdm, columns=NAMES).assign(a=NAMES, b=1.0),
         "a column of numbers per row"),
        ("texts", lambda rdm: pd.DataFrame(rdm).astype(object).replace(0.0, "x"),
         "got 'x' in row 0, column 0"),
        ("subjects with and without", lambda rdm: [frame(rdm), 2 * rdm], "names for 1 of 2"),
        ("subjects of others", lambda rdm: [frame(rdm), frame(rdm, strange)], "Subject 1 of"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"), [pytest.param(*case[1:], id=case[0]) for case in refused()]
)
def test_names_that_do_not_match_are_refused(
    make: Callable[[np.ndarray], Any], message: str, rdms: RDMs, rdm: np.ndarray
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        compare_rdms(rdms, make(rdm), bootstrap=0)


def test_images_without_names_say_how_to_name_them(client: Client, rdm: np.ndarray) -> None:
    unnamed = client.rdm_of(np.random.default_rng(0).normal(size=(COUNT, 20)))
    with pytest.raises(InvalidRequestError, match=r"only numbers: pass names to Client\.rdm_of"):
        compare_rdms(unnamed, frame(rdm), bootstrap=0)


def test_names_that_a_user_gives_must_agree_with_those_carried(rdms: RDMs, rdm: np.ndarray) -> None:
    table = frame(shuffled(rdm))
    found = compare_rdms(rdms, table, reference_images=OTHERS, correlation="pearson", bootstrap=0)
    assert found.scores[0].score == pytest.approx(1)
    with pytest.raises(InvalidRequestError, match="`reference_images` must agree with the names"):
        compare_rdms(rdms, table, reference_images=NAMES, bootstrap=0)
    own = frame(shuffled(rdm), [f"x{number}" for number in range(COUNT)])
    compare_rdms(rdms, own, reference_images=OTHERS, bootstrap=0)


def test_rows_of_other_images_are_left_out(rdms: RDMs, rdm: np.ndarray) -> None:
    larger = np.pad(shuffled(rdm), 2, constant_values=0.5)
    table = frame(larger, ["x", "y", *OTHERS, "z", "w"])
    with pytest.warns(UserWarning, match="4 rows of other images are left out"):
        found = compare_rdms(rdms, table, correlation="pearson", bootstrap=0)
    assert found.scores[0].score == pytest.approx(1)


def test_features_with_names_keep_them(client: Client) -> None:
    values = np.random.default_rng(1).normal(size=(COUNT, 5))
    first = pd.DataFrame(values, index=NAMES)
    second = xr.DataArray(values[ORDER], {"image": OTHERS}, ["image", "unit"])
    assert client.rdm_of(first).images == NAMES
    assert client.rdm_of(Dataset(values, obs_descriptors={"image": OTHERS})).images == OTHERS
    with pytest.raises(InvalidRequestError, match="same images in the same order"):
        client.rdm_of({"a": first, "b": second})
    assert client.rdm_of({"a": first, "b": values}).images == [str(row) for row in range(COUNT)]
    cka = get_cka("numpy", m=COUNT)
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        assert cka.compare(first, second) == pytest.approx(1)
    with pytest.raises(InvalidRequestError, match="no rows for"):
        cka.compare(first, second.assign_coords(image=[f"x{row}" for row in range(COUNT)]))


def test_correlations_of_plain_and_named_rdms_are_by_position(rdm: np.ndarray) -> None:
    unknown = rdm.astype("float32")  # no array of these bytes came from a server
    assert correlate_rdms(unknown, frame(rdm)) == pytest.approx(1)
    assert correlate_rdms(pd.DataFrame(rdm), rdm) == pytest.approx(1)
    assert correlate_rdms(toolbox(rdm), rdm.tolist()) == pytest.approx(1)
    with pytest.raises(InvalidRequestError, match="no rows for"):
        correlate_rdms(frame(rdm, NAMES), frame(rdm, [f"x{row}" for row in range(COUNT)]))
    with pytest.raises(InvalidRequestError, match="different orders"):
        correlate_rdms(pd.DataFrame(rdm, OTHERS, NAMES), rdm)


def test_spellings_of_names() -> None:
    assert find_rows(["a/é.png"], ["a\\e\u0301.png"]) == [0]
    assert find_rows(["vgg.1.png", "vgg.2.png"], ["vgg.2", "vgg.1"]) == [1, 0]
    assert find_rows(["007.png", "010.png"], ["10", "7"]) == [1, 0]
    assert find_rows(["a/7.png", "b/7.png"], ["7", "8"]) is None


def test_references_of_the_papers_table_are_matched(rdm: np.ndarray) -> None:
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        found = _references({"it": frame(shuffled(rdm)), "v1": rdm}, NAMES)
    np.testing.assert_allclose(found["it"], rdm, rtol=1e-15)
    with pytest.raises(InvalidRequestError, match="no rows for"):
        _references({"it": frame(rdm, [f"x{row}" for row in range(COUNT)])}, NAMES)


def test_arrays_of_known_rows_are_matched_with_objects_that_carry_names(
    client: Client, rdms: RDMs
) -> None:
    rdm, named = rdms.rdms["features"], frame(shuffled(rdms.rdms["features"]))
    for pair in ((rdm, named), (named, rdm), (rdm.copy(), named)):
        with pytest.warns(UserWarning, match=ANOTHER_ORDER):
            assert correlate_rdms(*pair) == pytest.approx(1)
    features = np.random.default_rng(1).normal(size=(COUNT, 20))
    remember_rows(features, NAMES)
    other = frame(shuffled(compute_rdm(features.copy())))
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        assert correlate_rdms(compute_rdm(features), other) == pytest.approx(1)


def test_names_must_agree_with_those_that_features_carry(client: Client) -> None:
    features = pd.DataFrame(np.random.default_rng(1).normal(size=(COUNT, 20)), index=OTHERS)
    assert client.rdm_of(features, OTHERS).images == OTHERS
    renamed = [f"stimulus {number}" for number in range(COUNT)]
    assert client.rdm_of(features, renamed).images == renamed
    with pytest.raises(InvalidRequestError, match="`names` must agree with the names"):
        client.rdm_of(features, NAMES)


def test_names_without_an_order_are_refused(client: Client, rdms: RDMs, rdm: np.ndarray) -> None:
    features = np.random.default_rng(1).normal(size=(COUNT, 20))
    assert client.rdm_of(features, dict.fromkeys(NAMES).keys()).images == NAMES
    with pytest.raises(InvalidRequestError, match="`names` must be a list with a name per row"):
        client.rdm_of(features, set(NAMES))
    with pytest.raises(InvalidRequestError, match="`reference_images` must be a list"):
        compare_rdms(rdms, rdm, reference_images=set(NAMES))


def test_tables_without_a_header_are_matched_by_their_first_column(
    rdms: RDMs, rdm: np.ndarray, tmp_path: Path
) -> None:
    frame(shuffled(rdm)).to_csv(tmp_path / "it.csv", header=False)
    table = pd.read_csv(tmp_path / "it.csv", header=None)
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        found = compare_rdms(rdms, table, correlation="pearson", bootstrap=0)
    assert found.scores[0].score == pytest.approx(1)


def test_arrays_of_known_rows_are_matched_by_name(rdms: RDMs) -> None:
    features = np.random.default_rng(0).normal(size=(COUNT, 20))[ORDER]
    remember_rows(features, OTHERS)
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        found = compare_rdms(rdms, compute_rdm(features), correlation="pearson", bootstrap=0)
    assert found.scores[0].score == pytest.approx(1)

    copied = features[np.argsort(ORDER)]
    remember_rows(copied, [f"small/x{row}.png" for row in range(COUNT)])
    with pytest.warns(UserWarning, match="was computed from other images, as far as is known"):
        found = compare_rdms(rdms, compute_rdm(copied), correlation="pearson", bootstrap=0)
    assert found.scores[0].score == pytest.approx(1)


def test_what_a_client_returned_is_an_rdm(client: Client, rdms: RDMs, rdm: np.ndarray) -> None:
    with pytest.warns(UserWarning, match=ANOTHER_ORDER):
        assert correlate_rdms(rdms, frame(shuffled(rdm))) == pytest.approx(1)
    two = client.rdm_of({name: np.eye(COUNT) for name in ("a", "b")})
    with pytest.raises(InvalidRequestError, match=r"RDMs of 2 modules: pass one.*rdms\['a'\]"):
        correlate_rdms(two, rdm)
