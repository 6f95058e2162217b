"""Figures of RDMs: what is drawn where, in which colours, and that no letters overlap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import rankdata

from support.drawn_figures import (
    CATEGORIES,
    COUNT,
    LONG,
    assert_nothing_overlaps,
    names,
    random_rdm,
    rdm_axes,
)
from thingsvision_client import Client, compute_rdm, read_origin
from thingsvision_client.core import rsa as core_rsa
from thingsvision_client.errors import ImageError, InvalidRequestError
from thingsvision_client.figures.rdm_grid import plot_rdms
from thingsvision_client.labels import remember_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures in plain colours, wide ones, in folders of their category."""
    for row in range(COUNT):
        path = tmp_path / "images" / CATEGORIES[row] / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 30), colour_of(row)).save(path)
    return tmp_path / "images"


def colour_of(row: int) -> tuple[int, int, int]:
    return (10 * row, 255 - 10 * row, 128)


def test_panels_show_the_values(tmp_path: Path, drawn: list[Any]) -> None:
    rdms = {"one": random_rdm(1), "two": 3 * random_rdm(2)}
    plot_rdms(tmp_path / "grid.png", rdms, categories=CATEGORIES)
    (figure,) = drawn
    first, second = rdm_axes(figure)
    assert [axes.get_title() for axes in (first, second)] == ["one", "two"]
    off = np.concatenate([rdm[np.triu_indices(COUNT, 1)] for rdm in rdms.values()])
    for axes, rdm in zip((first, second), rdms.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), rdm)
        assert axes.images[0].get_clim() == (off.min(), off.max())
    lines = [line.get_xdata()[0] for line in first.lines if line.get_xdata()[0] > 0]
    assert [line for line in lines if line != 1] == [8.5, 12.5]
    plot_rdms(tmp_path / "grid.png", rdms, scale="own")
    for axes, rdm in zip(rdm_axes(drawn[1]), rdms.values(), strict=True):
        values = rdm[np.triu_indices(COUNT, 1)]
        assert axes.images[0].get_clim() == (values.min(), values.max())


def test_ranks_are_percentiles_of_pairs(tmp_path: Path, drawn: list[Any]) -> None:
    rdm = random_rdm(1)
    rdm[2, :] = rdm[:, 2] = np.nan
    plot_rdms(tmp_path / "grid.png", {"a": rdm}, scale="ranks")
    shown = rdm_axes(drawn[0])[0].images[0].get_array()
    upper = np.triu_indices(COUNT, 1)
    values = rdm[upper]
    kept = np.isfinite(values)
    expected = 100 * (rankdata(values[kept]) - 1) / (kept.sum() - 1)
    np.testing.assert_allclose(shown[upper][kept], expected, atol=1e-12)
    assert np.ma.getmaskarray(shown)[upper][~kept].all() or np.isnan(shown[upper][~kept]).all()
    assert (expected.min(), expected.max()) == (0, 100)
    labels = {axes.get_ylabel() for axes in drawn[0].axes}
    assert "dissimilarity (percentile)" in labels


def pixels_of(path: Path, figure: Any) -> Any:
    """Return what gives the colour at a place of axes, in their data coordinates."""
    image = Image.open(path).convert("RGB")

    def pixel(axes: Any, x: float, y: float) -> tuple[int, ...]:
        across, up = axes.transData.transform((x, y))
        found = image.getpixel((int(across), image.height - 1 - int(up)))
        assert isinstance(found, tuple)
        return found

    assert image.size == tuple(int(side * 300 + 1e-6) for side in figure.get_size_inches())
    return pixel


def test_pixels_are_the_colours_of_values_and_pictures(
    tmp_path: Path, folder: Path, drawn: list[Any]
) -> None:
    import matplotlib as mpl

    rdm = random_rdm(1)
    rdm[3, 20] = rdm[20, 3] = np.nan
    path = tmp_path / "grid.png"
    plot_rdms(path, {"a": rdm}, images=names(), thumbnails=folder, colormap="viridis")
    pixel = pixels_of(path, drawn[0])
    axes = rdm_axes(drawn[0])[0]
    values = rdm[np.triu_indices(COUNT, 1)]
    low, high = np.nanmin(values), np.nanmax(values)
    for row, column in [(0, 5), (5, 0), (17, 10), (23, 22), (1, 1)]:
        level = np.clip((rdm[row, column] - low) / (high - low), 0, 1)
        expected = np.array(mpl.colormaps["viridis"](level)[:3]) * 255
        assert np.abs(pixel(axes, column, row) - expected).max() < 3
    assert pixel(axes, 20, 3) == pixel(axes, 3, 20) == (220, 220, 220)
    strips = [one for one in drawn[0].axes if len(one.images) > 1]
    assert len(strips) == 2
    seen = []
    for strip in strips:
        for picture in strip.images:
            left, right, bottom, top = picture.get_extent()
            x, y = (left + right) / 2, (bottom + top) / 2
            red = pixel(strip, x, y)[0]
            seen.append(round(red / 10))
            assert np.abs(np.subtract(pixel(strip, x, y), colour_of(seen[-1]))).max() < 3
            # It is twice as wide as high: above and below it the paper shows.
            assert pixel(strip, x, y + 0.42 * (top - bottom)) == (255, 255, 255)
    assert len(seen) == len(strips[0].images) * 2
    assert seen == sorted(seen[: len(seen) // 2]) * 2
    assert {CATEGORIES[row] for row in seen} == set(CATEGORIES)


def test_pictures_lie_beside_their_rows_where_there_is_room(
    tmp_path: Path, folder: Path, drawn: list[Any]
) -> None:
    keep = [0, 5, 10, 20]
    small = random_rdm(1)[np.ix_(keep, keep)]
    path = tmp_path / "grid.png"
    plot_rdms(path, {"a": small}, images=[names()[row] for row in keep], thumbnails=folder)
    pixel = pixels_of(path, drawn[0])
    left, below = (one for one in drawn[0].axes if len(one.images) > 1)
    for place, row in enumerate(keep):
        middle = 0.03 + left.images[0].get_extent()[0] / 2
        assert np.abs(np.subtract(pixel(left, middle, place), colour_of(row))).max() < 3
        assert np.abs(np.subtract(pixel(below, place, middle), colour_of(row))).max() < 3


def test_rows_that_are_known_have_their_pictures(
    tmp_path: Path, folder: Path, drawn: list[Any]
) -> None:
    keep = [20, 0, 10, 5]  # the folder has more images than the RDM has rows
    features = np.random.default_rng(0).normal(size=(len(keep), 9))
    remember_rows(features, [names()[row] for row in keep])
    sorted_features = features[np.argsort(keep)]
    remember_rows(sorted_features, [names()[row] for row in sorted(keep)])
    rdm, path = compute_rdm(features), tmp_path / "grid.png"
    with pytest.warns(UserWarning, match="another order"):
        plot_rdms(path, {"a": rdm, "b": compute_rdm(sorted_features)}, thumbnails=folder)
    for axes in rdm_axes(drawn[0]):
        np.testing.assert_allclose(axes.images[0].get_array(), rdm, atol=1e-12)
    assert read_origin(path)["names"] == [names()[row] for row in keep]

    listed = [f"{folder.name}/{names()[row]}" for row in keep]  # as file_names.txt has them
    paths = [tmp_path / "known.png", tmp_path / "listed.png"]
    plot_rdms(paths[0], {"a": rdm}, thumbnails=folder)
    plot_rdms(paths[1], {"a": np.array(rdm)}, images=listed, thumbnails=folder)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    pixel = pixels_of(paths[0], drawn[1])
    left = next(one for one in drawn[1].axes if len(one.images) > 1)
    for place, row in enumerate(keep):
        middle = 0.03 + left.images[0].get_extent()[0] / 2
        assert np.abs(np.subtract(pixel(left, middle, place), colour_of(row))).max() < 3
    with pytest.raises(InvalidRequestError, match=r"\(4\), got 24; name the rows .* with `images`"):
        plot_rdms(path, {"a": rdm + 1 - np.eye(4)}, thumbnails=folder)


def test_rows_of_a_category_are_put_together(
    tmp_path: Path, folder: Path, drawn: list[Any]
) -> None:
    order = np.random.default_rng(0).permutation(COUNT)
    rdm, rows = random_rdm(1), [names()[row] for row in order]
    labels = [CATEGORIES[row] for row in order]
    for sort in (True, False):
        plot_rdms(
            tmp_path / "grid.png", {"a": rdm}, images=rows, thumbnails=folder,
            sort_by_category=sort,
        )  # fmt: skip
    first = {label: labels.index(label) for label in CATEGORIES}
    together = sorted(range(COUNT), key=lambda row: (first[labels[row]], row))
    shown = [rdm_axes(figure)[0].images[0].get_array() for figure in drawn]
    np.testing.assert_array_equal(shown[0], rdm[np.ix_(together, together)])
    np.testing.assert_array_equal(shown[1], rdm)
    assert_nothing_overlaps(drawn[0])
    assert_nothing_overlaps(drawn[1])


@pytest.mark.parametrize("panel_count", [2, 5])
@pytest.mark.parametrize("scale", ["shared", "own"])
@pytest.mark.parametrize("category_count", [0, 3, 24])
def test_no_letters_overlap(
    tmp_path: Path, drawn: list[Any], panel_count: int, scale: str, category_count: int
) -> None:
    labels = [f"category number {row * category_count // COUNT}" for row in range(COUNT)]
    rdms = {f"{number} {LONG}": 1e5 * random_rdm(number) for number in range(panel_count)}
    plot_rdms(
        tmp_path / "grid.png", rdms, images=names(), scale=scale,
        categories=labels if category_count else None,
    )  # fmt: skip
    assert_nothing_overlaps(drawn[0])
    assert drawn[0].get_size_inches()[0] <= 7.2 + 1e-6


def test_images_are_named_if_there_are_few(tmp_path: Path, drawn: list[Any]) -> None:
    rows = [f"{row} $no maths$.png" for row in range(COUNT)]
    plot_rdms(tmp_path / "grid.png", {"a": random_rdm(1)}, images=rows)
    written = {text.get_text() for axes in drawn[0].axes for text in axes.texts}
    assert written == {f"{row} $no\nmaths$" for row in range(COUNT)} or written == {
        f"{row} $no maths$" for row in range(COUNT)
    }
    plot_rdms(tmp_path / "many.png", {"a": random_rdm(1, 60)}, images=list(map(str, range(60))))
    assert not [text for axes in drawn[1].axes for text in axes.texts]


def test_the_record_of_a_server_names_modules_images_and_units(
    client: Client, tmp_path: Path, drawn: list[Any]
) -> None:
    generator = np.random.default_rng(0)
    features = {name: generator.normal(size=(COUNT, 9)) for name in ("early", "late")}
    euclidean = client.rdm_of(features, names(), metric="euclidean")
    cosine = client.rdm_of({"late": features["late"]}, names(), metric="cosine")
    plot_rdms(tmp_path / "grid.png", euclidean)
    assert [axes.get_title() for axes in rdm_axes(drawn[0])] == ["early", "late"]
    assert [one.get_ylabel() for one in drawn[0].axes].count("Euclidean distance") == 2
    plot_rdms(tmp_path / "models.png", {"AlexNet": euclidean, "ViT": cosine, "IT": random_rdm(1)})
    titles = [axes.get_title() for axes in rdm_axes(drawn[1])]
    assert titles == ["AlexNet early", "AlexNet late", "ViT", "IT"]
    other = client.rdm_of(features, names()[::-1])
    with pytest.raises(InvalidRequestError, match="same images in the same order"):
        plot_rdms(tmp_path / "grid.png", {"a": euclidean, "b": other})


DRAW = """
import sys
from pathlib import Path
import numpy as np
from thingsvision_client.figures.rdm_grid import plot_rdms
upper = np.triu(np.random.default_rng(1).random((24, 24)), k=1)
folder = Path(sys.argv[1])
files = sorted(folder.rglob("*.png"))
for path in sys.argv[2:]:
    plot_rdms(path, {"a": upper + upper.T}, thumbnails=files,
              categories=[file.parent.name for file in files])
assert "matplotlib.pyplot" not in sys.modules
"""


def test_the_same_figure_is_the_same_bytes(tmp_path: Path, folder: Path) -> None:
    endings = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    here, there = ([tmp_path / at / f"grid.{one}" for one in endings] for at in ("here", "there"))
    files = sorted(folder.rglob("*.png"))
    for path in here:
        plot_rdms(
            path, {"a": random_rdm(1)}, thumbnails=files,
            categories=[file.parent.name for file in files],
        )  # fmt: skip
    environment = dict(os.environ, PYTHONHASHSEED="7", SOURCE_DATE_EPOCH="100000000")
    subprocess.run([sys.executable, "-c", DRAW, folder, *there], env=environment, check=True)
    for one, other, start in zip(here, there, endings.values(), strict=True):
        assert one.read_bytes() == other.read_bytes(), one
        assert one.read_bytes().startswith(start)
    assert sorted(path.name for path in here[0].parent.iterdir()) == [
        "grid.pdf", "grid.pdf.json", "grid.png", "grid.png.json", "grid.svg", "grid.svg.json",
    ]  # fmt: skip
    # Letters stay letters in the PDF, for who edits it.
    assert b"/FontFile2" in here[2].read_bytes()


def test_figures_that_cannot_be_drawn_are_refused(tmp_path: Path, folder: Path) -> None:
    rdm, path = {"a": random_rdm(1)}, tmp_path / "grid.png"
    wrong: list[tuple[dict[str, Any], str]] = [
        (
            {"colormap": "virids"},
            "`colormap` must be one of matplotlib's, such as .*viridis.*got 'virids'",
        ),
        ({"scale": "log"}, "`scale` must be one of shared, own, ranks, got 'log'"),
        ({"categories": ["a", "b"]}, r"a label per image \(24\), got 2"),
        ({"categories": "species"}, "a label per image, 'folders' or None"),
        ({"images": ["a"]}, r"a name per row \(24\), got 1"),
        ({"thumbnails": [folder / "x.png"] * 24}, "24 thumbnails do not exist"),
        ({"thumbnails": [folder / "x.png"]}, r"a file per image \(24\), got 1"),
    ]
    for options, message in wrong:
        with pytest.raises(InvalidRequestError, match=message):
            plot_rdms(path, rdm, **options)
    with pytest.raises(
        InvalidRequestError, match=r"ending of a figure must be one of .*pdf.*'grid\.doc'"
    ):
        plot_rdms(tmp_path / "grid.doc", rdm)
    for values, message in [
        ({}, "at least one RDM to draw"),
        ({"a": np.zeros((3, 4))}, r"'a' must be images x images, got shape \(3, 4\)"),
        ({"a": np.zeros((3, 3)), "b": np.zeros((4, 4))}, "the same number of images, got {'a': 3"),
    ]:
        with pytest.raises(InvalidRequestError, match=message):
            plot_rdms(path, values)
    broken = folder / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png can't be drawn"):
        plot_rdms(path, rdm, thumbnails=[broken] * COUNT)
    assert not list(tmp_path.glob("*grid*"))


def test_the_librarys_plot_draws_ranks_in_any_format(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(12, 30))
    for ending, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        core_rsa.plot_rdm(tmp_path, features, format=ending)
        assert (tmp_path / f"rdm{ending}").read_bytes().startswith(start)
    with pytest.raises(InvalidRequestError, match="ending of a figure must be one of"):
        core_rsa.plot_rdm(tmp_path, features, format=".doc")
    with pytest.raises(
        InvalidRequestError, match=r"matplotlib's, such as .*cividis.*got 'cividiss'"
    ):
        core_rsa.plot_rdm(tmp_path, features, colormap="cividiss")
    image = np.asarray(Image.open(tmp_path / "rdm.png").convert("RGB"))
    colours = {tuple(colour) for colour in image.reshape(-1, 3)[::7].tolist()}
    rdm = core_rsa.compute_rdm(features)
    assert len(np.unique(rankdata(rdm))) == 12 * 11 / 2 + 1
    assert len(colours) > 50
