"""Jobs over lists of images without one common root go on after repairs and removals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.long_extractions import Stop
from support.serving import TestServer
from thingsvision_client import DataLoader, ImageDataset, errors, get_extractor, read_origin
from thingsvision_client.images.folder import image_names

MODULE = "features.3"
BATCH = 4


@pytest.fixture
def extractor(server: TestServer) -> Any:
    parameters = {"seed": 0}
    return get_extractor(
        "squeezenet1_0", False, "cpu", "torchvision",
        model_parameters=parameters, server=server.address,
    )  # fmt: skip


@pytest.fixture
def folders(originals: Path, tmp_path: Path) -> list[Path]:
    """Two folders of five images each, which have the same names in both."""
    made = []
    for part in range(2):
        folder = tmp_path / f"part{part}"
        folder.mkdir()
        for place, name in enumerate(image_names(originals)[5 * part : 5 * part + 5]):
            (folder / f"{place}.jpg").write_bytes((originals / name).read_bytes())
        made.append(folder)
    return made


def loader_of(folders: list[Path]) -> DataLoader:
    from torch.utils.data import ConcatDataset

    parts = ConcatDataset([ImageDataset(folder, None, "pt") for folder in folders])
    return DataLoader(parts, BATCH, "pt")


def pictures_of(folders: list[Path]) -> list[list[Any]]:
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    pictures = [Image.open(BytesIO(path.read_bytes())) for path in paths]
    return [pictures[first : first + BATCH] for first in range(0, len(pictures), BATCH)]


def rows_in(out: Path) -> np.ndarray[Any, Any]:
    paths = (out / MODULE).glob("*.npy")
    in_order = sorted(paths, key=lambda path: int(path.stem.split("_")[1].split("-")[0]))
    return np.concatenate([np.load(path) for path in in_order])


@pytest.mark.parametrize("opened", [loader_of, pictures_of])
def test_a_bad_image_is_removed_or_repaired(
    extractor: Any,
    folders: list[Path],
    tmp_path: Path,
    computed: Callable[[], int],
    opened: Callable[[list[Path]], Any],
) -> None:
    expected = extractor.extract_features(opened(folders), MODULE)
    out, options = tmp_path / "out", {"step_size": 1}
    broken, removed = folders[0] / "2.jpg", folders[1] / "0.jpg"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(errors.BadImagesError, match="1 of 10"):
        extractor.extract_features(opened(folders), MODULE, output_dir=out, **options)
    computed()
    removed_content = removed.read_bytes()
    removed.unlink()  # a good one, which has the same name as another image
    with pytest.raises(errors.BadImagesError, match="1 of 10"):
        extractor.extract_features(opened(folders), MODULE, output_dir=out, **options)
    assert computed() == 0
    np.testing.assert_array_equal(rows_in(out), np.delete(expected, [2, 5], axis=0))
    broken.unlink()
    extractor.extract_features(opened(folders), MODULE, output_dir=out, **options)
    assert computed() == 0
    np.testing.assert_array_equal(rows_in(out), np.delete(expected, [2, 5], axis=0))
    broken.write_bytes(content)
    removed.write_bytes(removed_content)
    extractor.extract_features(opened(folders), MODULE, output_dir=out, **options)
    np.testing.assert_array_equal(rows_in(out), expected)
    told = [read_origin(path).get("skipped", []) for path in (out / MODULE).glob("*.npy")]
    assert told == [[], [], []]


@pytest.mark.parametrize("opened", [loader_of, pictures_of])
def test_an_interrupted_job_goes_on_without_removed_images(
    extractor: Any, folders: list[Path], tmp_path: Path, opened: Callable[[list[Path]], Any]
) -> None:
    expected = extractor.extract_features(opened(folders), MODULE)
    out, options = tmp_path / "out", {"step_size": 1}
    with pytest.raises(KeyboardInterrupt):
        extractor.extract_features(
            opened(folders), MODULE, output_dir=out, progress=Stop(at=5), **options
        )
    (folders[0] / "0.jpg").unlink()  # done
    (folders[1] / "3.jpg").unlink()  # not done yet
    extractor.extract_features(opened(folders), MODULE, output_dir=out, **options)
    found = rows_in(out)
    np.testing.assert_allclose(found, np.delete(expected, [0, 8], axis=0), atol=1e-5)
    np.testing.assert_array_equal(found[:3], expected[1:4])


def test_changed_and_added_images_are_still_refused(
    extractor: Any, folders: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for opened in (loader_of, pictures_of):
        place = out / opened.__name__
        extractor.extract_features(opened(folders), MODULE, output_dir=place, step_size=1)
        changed = folders[0] / "1.jpg"
        content = changed.read_bytes()
        with Image.open(BytesIO(content)) as picture:
            picture.rotate(90).save(changed)
        with pytest.raises(errors.InvalidRequestError, match=r"image 1, .*had SHA-256"):
            extractor.extract_features(opened(folders), MODULE, output_dir=place, step_size=1)
        changed.write_bytes(content)
        added = folders[1] / "9.jpg"
        added.write_bytes((folders[0] / "2.jpg").read_bytes())
        with pytest.raises(errors.InvalidRequestError, match=r"image 10 now|10 images and are 11"):
            extractor.extract_features(opened(folders), MODULE, output_dir=place, step_size=1)
        added.unlink()


def test_a_generator_is_told_to_be_made_again(
    extractor: Any, folders: list[Path], tmp_path: Path
) -> None:
    def batches() -> Iterator[Any]:
        yield from pictures_of(folders)

    broken, out = folders[0] / "2.jpg", tmp_path / "out"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(errors.BadImagesError):
        extractor.extract_features(batches(), MODULE, output_dir=out, step_size=1)
    broken.write_bytes(content)
    with pytest.raises(errors.InvalidRequestError, match="generator that was read already"):
        extractor.extract_features(batches(), MODULE, output_dir=out, step_size=1)
    extractor.extract_features(pictures_of(folders), MODULE, output_dir=out, step_size=1)
    assert len(rows_in(out)) == 10
