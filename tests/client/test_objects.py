"""Features and RDMs as objects of rsatoolbox and xarray."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thingsvision_client import Client, Model
from thingsvision_client.analysis.objects import to_dataset, to_rdms, to_xarray
from thingsvision_client.errors import InvalidRequestError, MissingDependencyError
from thingsvision_client.rpc.extraction import Extraction
from thingsvision_client.rpc.rdms import RDMs

MODEL = Model("torchvision", "squeezenet1_0", "random:0")
MAP, VECTOR, WHOLE = "features.12", "classifier.3", ""


@pytest.fixture
def extraction(client: Client, photos: list[Path]) -> Extraction:
    return client.extract(MODEL, photos, [MAP, VECTOR, WHOLE], batch_size=2)


@pytest.fixture
def rdms(client: Client, photos: list[Path]) -> RDMs:
    return client.rdm(MODEL, photos, [MAP, VECTOR], metric="euclidean")


def test_a_dataset_knows_images_units_and_origin(extraction: Extraction) -> None:
    dataset = to_dataset(extraction, MAP)
    features = extraction.features[MAP]
    assert dataset.measurements.shape == (len(features), 512 * 13 * 13)
    names = dataset.obs_descriptors["image"]
    assert list(names) == extraction.images
    places = {axis: dataset.channel_descriptors[axis] for axis in ("channel", "height", "width")}
    for unit in (0, 1, 14, 5000, 512 * 169 - 1):
        place = tuple(places[axis][unit] for axis in places)
        assert (dataset.measurements[:, unit] == features[(slice(None), *place)]).all()
    assert list(dataset.channel_descriptors["index"][:3]) == [0, 1, 2]
    assert dataset.descriptors["model"] == str(MODEL)
    assert dataset.descriptors["module"] == MAP
    assert json.loads(dataset.descriptors["preprocessing"])["crop_pixels"] == [224, 224]


def test_rsatoolbox_computes_on_the_dataset_what_the_server_does(
    extraction: Extraction, rdms: RDMs
) -> None:
    from rsatoolbox.rdm import calc_rdm

    theirs = calc_rdm(to_dataset(extraction, VECTOR), method="euclidean").get_matrices()[0]
    ours = rdms.rdms[VECTOR].astype(np.float64)
    # Theirs is the mean of squares over units.
    np.testing.assert_allclose(theirs, ours**2 / 1000, rtol=1e-3, atol=1e-12)


def test_rdms_are_one_object_with_names(rdms: RDMs) -> None:
    found = to_rdms(rdms)
    assert (found.n_rdm, found.n_cond) == (2, len(rdms.images))
    assert found.dissimilarity_measure == "euclidean"
    assert list(found.rdm_descriptors["module"]) == [MAP, VECTOR]
    assert list(found.pattern_descriptors["image"]) == rdms.images
    assert found.descriptors["model"] == str(MODEL)
    for number, rdm in enumerate(rdms.rdms.values()):
        np.testing.assert_array_equal(found.get_matrices()[number], rdm.astype(np.float64))
    one = found.subset("module", VECTOR)
    np.testing.assert_array_equal(one.get_matrices()[0], rdms.rdms[VECTOR].astype(np.float64))


def test_xarray_names_axes_and_images(extraction: Extraction) -> None:
    features = to_xarray(extraction, MAP)
    assert features.dims == ("image", "channel", "height", "width")
    second = features.sel(image=extraction.images[1]).isel(channel=3)
    np.testing.assert_array_equal(second, extraction.features[MAP][1, 3])
    assert np.shares_memory(features.values, extraction.features[MAP])
    assert features.attrs["model_sha256"] == extraction.provenance.model_sha256
    both = to_xarray(extraction)
    assert list(both.data_vars) == [MAP, VECTOR, "(model)"]
    assert both[MAP].dims == ("image", f"{MAP}.channel", f"{MAP}.height", f"{MAP}.width")
    assert both["(model)"].dims == ("image", "(model).unit")
    np.testing.assert_array_equal(both["(model)"], extraction.features[WHOLE])
    assert list(both.image.values) == extraction.images


def test_xarray_of_rdms_is_selected_by_names(rdms: RDMs) -> None:
    found = to_xarray(rdms)
    first, last = rdms.images[0], rdms.images[-1]
    value = found[VECTOR].sel(image=first, other_image=last).item()
    assert value == rdms.rdms[VECTOR][0, -1] > 0
    assert found.attrs["metric"] == "euclidean"
    assert to_xarray(rdms, MAP).dims == ("image", "other_image")


def test_xarray_goes_into_a_netcdf_file(extraction: Extraction, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    to_xarray(extraction).to_netcdf(tmp_path / "features.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "features.nc", engine="scipy") as read:
        np.testing.assert_array_equal(read[VECTOR], extraction.features[VECTOR])
        assert read.attrs["framework"] == extraction.provenance.framework


@pytest.mark.parametrize(
    ("shape", "told", "axes"),
    [
        ((7,), ["features"], ["unit"]),
        ((7,), None, ["unit"]),
        ((5, 7), ["tokens", "features"], ["token", "unit"]),
        ((5, 7), None, ["axis_1", "axis_2"]),
        ((8, 3, 4), ["channels", "height", "width"], ["channel", "height", "width"]),
        ((3, 3, 3), ["height", "width", "channels"], ["height", "width", "channel"]),
        ((8, 3, 3), None, ["axis_1", "axis_2", "axis_3"]),
        ((8, 2, 3), ["channels", "", ""], ["channel", "axis_2", "axis_3"]),
        ((2, 5, 7), ["calls", "tokens", "features"], ["call", "token", "unit"]),
    ],
)
def test_axes_are_what_the_server_says(
    extraction: Extraction, shape: tuple[int, ...], told: list[str] | None, axes: list[str]
) -> None:
    array = np.arange(np.prod(shape) * len(extraction.images), dtype=np.float32)
    known = {} if told is None else {"m": tuple(told)}
    other = replace(extraction, features={"m": array.reshape(-1, *shape)}, axes=known)
    assert to_xarray(other, "m").dims == ("image", *axes)
    places = to_dataset(other).channel_descriptors
    assert list(places) == ["index", *axes]
    flat = np.ravel_multi_index(tuple(places[axis] for axis in axes), shape)
    np.testing.assert_array_equal(flat, places["index"])


def test_missing_modules_are_refused(extraction: Extraction, rdms: RDMs) -> None:
    with pytest.raises(
        InvalidRequestError, match=r"Choose a module; available: 'features\.12', 'cl"
    ):
        to_dataset(extraction)
    with pytest.raises(InvalidRequestError, match=r"no module 'fc'; available: 'features\.12'"):
        to_xarray(rdms, "fc")


def test_packages_are_asked_for_where_used(
    extraction: Extraction, rdms: RDMs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("rsatoolbox", "xarray"):
        for name in [one for one in sys.modules if one.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
    for call in (
        lambda: to_dataset(extraction, MAP), lambda: to_rdms(rdms), lambda: to_xarray(rdms),
    ):  # fmt: skip
        with pytest.raises(MissingDependencyError, match=r"'thingsvision-service\[rsa\]'"):
            call()
