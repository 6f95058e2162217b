"""Files of RDMs that carry the names of images: tables, archives, HDF5, MATLAB's, parquet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
from rsatoolbox.rdm import RDMs as ToolboxRDMs

from thingsvision_client import Client, save_features
from thingsvision_client.analysis import compare_rdms
from thingsvision_client.analysis.rdm_files import read_rdms
from thingsvision_client.analysis.references import as_references
from thingsvision_client.commands.analysis import _rdms_by_name
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.formats import mat73
from thingsvision_client.rpc.rdms import RDMs

NAMES = [f"{name}.jpg" for name in ("ant", "bee", "cow", "dog", "elk")]
OTHERS = [NAMES[row] for row in (3, 0, 4, 1, 2)]
STEMS = [name.removesuffix(".jpg") for name in OTHERS]


@pytest.fixture
def rdms(client: Client) -> RDMs:
    return client.rdm_of(np.random.default_rng(0).normal(size=(5, 9)), NAMES, dtype="float64")


@pytest.fixture
def other(rdms: RDMs) -> np.ndarray:
    order = [NAMES.index(name) for name in OTHERS]
    found: np.ndarray = rdms.rdms["features"][np.ix_(order, order)]
    return found


def frame(rdm: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(rdm, index=OTHERS, columns=OTHERS)


def write_hdf5(path: Path, rdm: np.ndarray, **entries: object) -> None:
    with h5py.File(path, "w") as file:
        file["rdm"] = rdm
        for name, value in entries.items():
            file[name] = value


def write_attribute(path: Path, rdm: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["rdm"] = rdm
        file["rdm"].attrs["stimuli"] = OTHERS


def write_mat73(path: Path, rdm: np.ndarray) -> None:
    with mat73.new_mat73(path) as file:
        mat73.add_cell(file.root, "labels", OTHERS)
        mat73.fill(mat73.add_matrix(file.root, "rdm", rdm.shape, "float64"), 0, rdm)


def write_toolbox(path: Path, rdm: np.ndarray) -> None:
    descriptors = {"kind": ["a", "a", "b", "b", "b"], "stimulus": OTHERS}
    ToolboxRDMs(rdm[None], pattern_descriptors=descriptors).save(str(path), "hdf5")


def cells(names: list[str]) -> np.ndarray:
    return np.array(names, dtype=object)[:, None]


FILES: dict[str, tuple[str, Callable[[Path, np.ndarray], object]]] = {
    "csv": ("it.csv", lambda path, rdm: frame(rdm).to_csv(path)),
    "csv, first line": ("it.csv", lambda path, rdm: frame(rdm).to_csv(path, index=False)),
    "csv, first column": ("it.csv", lambda path, rdm: frame(rdm).to_csv(path, header=False)),
    "csv, categories": ("it.csv", lambda path, rdm: pd.DataFrame(rdm, columns=OTHERS).assign(
        picture=OTHERS, kind=list("aabbb"))[["kind", "picture", *OTHERS]].to_csv(path)),
    "csv, categories, no titles": ("it.csv", lambda path, rdm: frame(rdm).assign(
        kind=list("aabbb")).to_csv(path, header=False)),
    "csv of Excel": ("it.csv", lambda path, rdm: frame(rdm).to_csv(
        path, sep=";", decimal=",", encoding="utf-8-sig")),
    "tsv": ("it.tsv", lambda path, rdm: frame(rdm).to_csv(path, sep="\t")),
    "txt of R": ("it.txt", lambda path, rdm: path.write_text(
        "\t".join(STEMS) + "\n" + "".join(
            f"{name}\t" + "\t".join(map(repr, row.tolist())) + "\n"
            for name, row in zip(STEMS, rdm, strict=True)))),
    "npz": ("it.npz", lambda path, rdm: np.savez(path, rdm=rdm, names=OTHERS)),
    "npz of subjects": ("it.npz", lambda path, rdm: np.savez(
        path, kinds=list("aabbb"), rdms=np.stack([rdm, rdm]), stimuli=STEMS)),
    "our hdf5": ("features.hdf5", lambda path, rdm: save_features(
        rdm, path.parent, "hdf5", names=OTHERS)),
    "hdf5": ("it.hdf5", lambda path, rdm: write_hdf5(path, rdm, labels=OTHERS)),
    "hdf5 of bytes": ("it.h5", lambda path, rdm: write_hdf5(path, rdm, x=np.array(OTHERS, "S"))),
    "hdf5, attribute": ("it.h5", write_attribute),
    "rsatoolbox": ("it.h5", write_toolbox),
    "our mat": ("features.mat", lambda path, rdm: save_features(
        rdm, path.parent, "mat", names=OTHERS)),
    "mat": ("it.mat", lambda path, rdm: scipy.io.savemat(
        path, {"rdm": rdm, "labels": cells(OTHERS), "category": [1, 1, 2, 2, 2]})),
    "mat of characters": ("it.mat", lambda path, rdm: scipy.io.savemat(
        path, {"rdm": rdm, "stimuli": STEMS})),
    "mat 7.3": ("it.mat", write_mat73),
    "our parquet": ("features.parquet", lambda path, rdm: save_features(
        rdm, path.parent, "parquet", names=OTHERS)),
    "parquet of pandas": ("it.parquet", lambda path, rdm: frame(rdm).to_parquet(path)),
    "parquet, columns": ("it.parquet", lambda path, rdm: frame(rdm).reset_index(
        drop=True).to_parquet(path)),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_names_in_a_file_are_matched(
    kind: str, rdms: RDMs, other: np.ndarray, tmp_path: Path
) -> None:
    name, write = FILES[kind]
    path = tmp_path / name
    write(path, other)
    for given in (path, {"it": path}, _rdms_by_name([f"it={path}"])):  # the last: --reference
        with pytest.warns(UserWarning, match="in another order: they are matched by the names in"):
            found = compare_rdms(
                rdms, given, correlation="pearson", bootstrap=0, noise_ceiling=False
            )
        np.testing.assert_allclose(found.scores[0].by_subject, 1, rtol=1e-9)


def test_tables_without_names_are_in_the_order_of_the_images(
    rdms: RDMs, other: np.ndarray, tmp_path: Path
) -> None:
    rdm = rdms.rdms["features"]
    path = tmp_path / "it.csv"
    empty = pd.DataFrame(rdm)
    for place in range(5):
        empty.iloc[place, place] = np.nan
    for write in (
        lambda: np.savetxt(path, rdm, delimiter=","),
        lambda: pd.DataFrame(rdm).to_csv(path),
        lambda: pd.DataFrame(rdm).to_csv(path, index=False),
        lambda: empty.to_csv(path, index=False, header=False),
    ):
        write()
        found = compare_rdms(rdms, path, correlation="pearson", bootstrap=0)
        assert found.scores[0].score == pytest.approx(1)


def test_what_is_not_an_rdm_is_refused(rdms: RDMs, other: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "it.csv"
    for text, message in (
        ("a,b\n1,2\n", "is not a table of an RDM"),
        ("a,b,c\n1,2,3\n4,5,6\n7,8,9\n1,2,3\n5,6,7\n", "got 6 lines of 3 cells"),
        (frame(other).to_csv().replace("0.0,", "zero,"), "must have numbers .* got 'zero'"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidRequestError, match=message):
            read_rdms(path)
    pairs = pd.DataFrame({"a": [1, 1, 2, 3], "b": [2, 3, 3, 4], "distance": [0.1, 0.2, 0.3, 0.4]})
    with pytest.raises(InvalidRequestError, match=r"table\.pivot"):
        as_references(pairs)
    np.savez(tmp_path / "it.npz", rdm=other, names=np.array(OTHERS, dtype=object))
    with pytest.raises(InvalidRequestError, match=r"'names' has Python objects.*dtype=str"):
        read_rdms(tmp_path / "it.npz")
    for name, advice in (("it.nc", "xarray"), ("it.xlsx", "read_excel"), ("it.pkl", "run code")):
        with pytest.raises(InvalidRequestError, match=advice):
            read_rdms(tmp_path / name)
    np.savez(tmp_path / "it.npz", rdm=other, names=[f"x{row}" for row in range(5)])
    with pytest.raises(InvalidRequestError, match=r"no rows for 5 .* 'names' in its file"):
        compare_rdms(rdms, tmp_path / "it.npz", bootstrap=0)
    frame(other).sort_index().to_csv(path)
    with pytest.raises(InvalidRequestError, match="different orders"):
        compare_rdms(rdms, path, bootstrap=0)


def test_names_of_other_lists_in_a_file_do_no_harm(
    rdms: RDMs, other: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "it.mat"
    content = {"rdm": rdms.rdms["features"], "subjects": cells(["s1", "s2"]), "note": "of a day"}
    scipy.io.savemat(path, content)
    found = compare_rdms(rdms, path, correlation="pearson", bootstrap=0)
    assert found.scores[0].score == pytest.approx(1)
    assert found.scores[0].reference == "rdm"
