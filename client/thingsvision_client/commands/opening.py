"""Extractors and datasets from the options that commands share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import typer

from ..calls.arguments import as_folder
from ..client import shared_client
from ..errors import BadImage, InvalidRequestError
from .groups import ImageOptions, ModelOptions, PassOptions
from .naming import find_source

if TYPE_CHECKING:
    from ..images.pixel_array import PixelArray
    from ..library.extractor import Extractor
    from ..values.options import ExtractOptions


def open_extractor(model: ModelOptions, token_extraction: str | None = None) -> Extractor:
    """Return the extractor that a command's options name."""
    from ..library.extractor import get_extractor
    from ..library.parameters import qualified_model_name

    client = shared_client(model.server)
    parameters = json_object("--model-parameters", model.model_parameters or "{}")
    model_name, at, weights = model.model_name.partition("@")
    if at:
        _add_weights(parameters, weights, model)
    qualified = qualified_model_name(model_name, parameters)
    source, found = find_source(client, qualified, model.source, preferred=model.preferred)
    if token_extraction is not None:
        parameters["token_extraction"] = token_extraction
    return get_extractor(
        model_name[len(qualified) - len(found) :],
        model.pretrained and not weights.startswith("random:"),
        model.device,
        source,
        model_path=model.model_path,
        model_parameters=parameters,
        server=client.server,
        share=model.share_weights,
    )


def _add_weights(parameters: dict[str, Any], weights: str, model: ModelOptions) -> None:
    """Add the weights of `name@weights` to the parameters of an extractor."""
    if model.model_path is not None:
        raise InvalidRequestError(f"--model-path has the weights: leave out @{weights}.")
    kind, _, seed = weights.partition(":")
    if kind != "random":
        parameters.setdefault("weights", weights)
        if parameters["weights"] != weights:
            raise InvalidRequestError(
                f"--model-name says @{weights}, and --model-parameters {parameters['weights']!r}: "
                "leave one of them out."
            )
        return
    if not (seed.isascii() and seed.isdigit()):
        raise InvalidRequestError(f"@random:SEED must have a whole number, got @{weights}.")
    if parameters.setdefault("seed", int(seed)) != int(seed):
        raise InvalidRequestError(
            f"--model-name says @{weights}, and --model-parameters the seed "
            f"{parameters['seed']!r}: leave one of them out."
        )


def json_object(option: str, text: str) -> dict[str, Any]:
    """Return the value of an option. Raises InvalidRequestError if it is not a JSON object."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"{option} must be JSON, got {text}: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRequestError(
            f"{option} must be a JSON object, '{{\"KEY\": VALUE}}', got {text}."
        )
    return found


def dataset_of(
    images: ImageOptions, out_path: Path, backend: str, *, overwrite: bool = False
) -> Any:
    """Return the images of a folder or an HDF5 file, with changes of their preprocessing.

    The folder for results is created, and must be able to have the names of the images, which
    `write_names` writes once there are results. Raises InvalidRequestError if it has those of
    other images, unless they may be overwritten.
    """
    from ..utils.file_names import FILE_NAMES, encode_lines

    dataset = _open_dataset(images, backend)
    encode_lines(out_path / FILE_NAMES, dataset.names)
    if not overwrite:
        _check_names(out_path, dataset.names)
    as_folder("out_path", out_path).mkdir(parents=True, exist_ok=True)
    return dataset


def _check_names(out_path: Path, names: Sequence[str]) -> None:
    """Raise InvalidRequestError if a folder has results of other images, beside `file_names.txt`.

    Images may have been added, repaired or removed: the file of the results decides about that.
    """
    from ..files import SKIPPED, read_skipped_names
    from ..labels import plain_name
    from ..utils.file_names import FILE_NAMES, read_names

    old = {PurePath(plain_name(line)).name for line in read_names(out_path) or []}
    new = {PurePath(plain_name(name)).name for name in names}
    skipped = {PurePath(name).name for name in read_skipped_names(out_path / SKIPPED)}
    results = [path.name for path in out_path.glob("*.json")]
    if results and not (old <= new or new <= old | skipped):
        one = min(old - new)
        raise InvalidRequestError(
            f"{out_path} has results of other images ({one!r} is in its {FILE_NAMES}, beside "
            f"{min(results).removesuffix('.json')}): choose another folder, or replace them with "
            "--overwrite."
        )


def _open_dataset(images: ImageOptions, backend: str) -> Any:
    from ..utils.data import HDF5Dataset, ImageDataset
    from ..utils.transforms import ServerTransforms

    transforms = ServerTransforms(images.changes)
    if not images.is_file:
        return ImageDataset(images.image_root, None, backend, transforms=transforms)
    array = _pixel_array(images)
    typer.echo(f"{array}.", err=True)
    return HDF5Dataset(
        images.image_root,
        array.key,
        backend,
        transforms=transforms,
        layout=array.layout.axes,
        names=_names_of(images),
    )


def extract_options(
    extractor: Extractor, images: ImageOptions, forward: PassOptions
) -> ExtractOptions:
    """Return an extractor's options with those of a command."""
    return replace(extractor.options, batch_size=forward.batch_size, preprocessing=images.changes)


def write_names(dataset: Any, out_path: Path, skipped: Sequence[BadImage] = ()) -> None:
    """Write `file_names.txt`, with the name of each row's image.

    Images without a row are left out, and listed in `skipped.txt`.
    """
    from ..utils.data import ImageDataset
    from ..utils.file_names import FILE_NAMES, write_lines

    if isinstance(dataset, ImageDataset):
        dataset.leave_out(skipped)
        dataset.write_names(out_path)
    else:
        write_lines(out_path / FILE_NAMES, dataset.names)


def say_written(path: Path) -> None:
    """Say on stderr which file a command wrote, and how large it is."""
    from ..calls.memory import size_text

    typer.echo(f"Wrote {path} ({size_text(path.stat().st_size)})", err=True)


def images_of(images: ImageOptions) -> Any:
    """Return the images of a folder or an HDF5 file, to be sent by a method of `Client`."""
    if not images.is_file:
        return images.image_root
    array = _pixel_array(images)
    typer.echo(f"{array}.", err=True)
    return array.queue(range(array.count))


def _pixel_array(images: ImageOptions) -> PixelArray:
    from ..images.pixel_array import PixelArray, find_key

    path, key = images.image_root, images.hdf5_key
    key = find_key(path, "--hdf5-key") if key is None else key
    return PixelArray(path, key, images.layout, _names_of(images))


def _names_of(images: ImageOptions) -> list[str] | None:
    return None if images.names is None else read_lines(images.names, "names from ")


def read_lines(path: Path, what: str = "") -> list[str]:
    """Return the lines of a text file (UTF-8). Raises InvalidRequestError if it can't be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.removesuffix("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can't read {what}{path}: {error}") from error
