"""Extractors and datasets from the options that commands share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..calls.arguments import as_folder
from ..client import Client
from ..errors import BadImage, InvalidRequestError
from .naming import find_source

if TYPE_CHECKING:
    from ..images.pixel_array import PixelArray


LIBRARY_SOURCE = "torchvision"
"""The source of a bare name in the commands whose defaults the original library gives."""


def open_extractor(
    client: Client, model_name: str, source: str | None, *, preferred: str = "", **options: Any
) -> Any:
    """Return the extractor that a command's options name; `preferred` is as in `find_source`."""
    from ..library.extractor import get_extractor
    from ..library.parameters import qualified_model_name

    parameters = json_object("--model-parameters", options.pop("model_parameters") or "{}")
    model_name, at, weights = model_name.partition("@")
    if at:
        _add_weights(parameters, options, weights)
    qualified = qualified_model_name(model_name, parameters)
    source, found = find_source(client, qualified, source, preferred=preferred)
    model_name = model_name[len(qualified) - len(found) :]
    if (tokens := options.pop("token_extraction", None)) is not None:
        parameters["token_extraction"] = tokens
    return get_extractor(
        model_name, source=source, model_parameters=parameters, server=client.server, **options
    )


def _add_weights(parameters: dict[str, Any], options: dict[str, Any], weights: str) -> None:
    """Add the weights of `name@weights` to the parameters and options of an extractor."""
    if options.get("model_path") is not None:
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
    options["pretrained"] = False
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


@dataclass(frozen=True)
class ImagePlace:
    """Where a command's images are: a folder, or an array of an HDF5 file with its layout."""

    root: Path
    key: str | None = None
    layout: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether the images are in an HDF5 file; checks the options of such a file."""
        is_file = self.root.is_file()
        if not is_file and (self.key, self.layout) != (None, None):
            raise InvalidRequestError(
                "--hdf5-key and --layout are for an --image-root that is an HDF5 file, got "
                f"{self.root}."
            )
        return is_file


def dataset_of(place: ImagePlace, out_path: Path, backend: str, changes: Any) -> Any:
    """Return the images of a folder or an HDF5 file, with changes of their preprocessing.

    The folder for results is created, and must be able to have the names of the images, which
    `write_names` writes once there are results.
    """
    from ..utils.file_names import FILE_NAMES, encode_lines

    dataset = _open_dataset(place, backend, changes)
    encode_lines(out_path / FILE_NAMES, dataset.names)
    as_folder("out_path", out_path).mkdir(parents=True, exist_ok=True)
    return dataset


def _open_dataset(place: ImagePlace, backend: str, changes: Any) -> Any:
    from ..utils.data import HDF5Dataset, ImageDataset
    from ..utils.transforms import ServerTransforms

    transforms = ServerTransforms(changes)
    if not place.is_file:
        return ImageDataset(place.root, None, backend, transforms=transforms)
    array = _pixel_array(place)
    typer.echo(f"{array}.", err=True)
    return HDF5Dataset(
        place.root, array.key, backend, transforms=transforms, layout=array.layout.axes
    )


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


def check_on_error(value: str) -> None:
    """Check what `--on-error` was given. Raises InvalidRequestError before anything is sent."""
    if value not in ("raise", "skip"):
        raise InvalidRequestError(f"--on-error must be raise or skip, got {value!r}.")


def say_written(path: Path) -> None:
    """Say on stderr which file a command wrote, and how large it is."""
    from ..calls.memory import size_text

    typer.echo(f"Wrote {path} ({size_text(path.stat().st_size)})", err=True)


def images_of(place: ImagePlace) -> Any:
    """Return the images of a folder or an HDF5 file, to be sent by a method of `Client`."""
    if not place.is_file:
        return place.root
    array = _pixel_array(place)
    typer.echo(f"{array}.", err=True)
    return array.queue(range(array.count))


def _pixel_array(place: ImagePlace) -> PixelArray:
    from ..images.pixel_array import PixelArray, find_key

    key = find_key(place.root, "--hdf5-key") if place.key is None else place.key
    return PixelArray(place.root, key, place.layout)


def read_lines(path: Path, what: str = "") -> list[str]:
    """Return the lines of a text file (UTF-8). Raises InvalidRequestError if it can't be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.removesuffix("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can't read {what}{path}: {error}") from error
