"""What MATLAB asks for: connection, images and options, by MATLAB's names, as Python's values."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..client import Client
from ..errors import InvalidRequestError
from ..images.folder import image_names
from ..images.image import file_image
from ..images.queue import ImageQueue, queue_files, queue_images
from ..images.texts import queue_texts
from ..values.options import ExtractArguments, ExtractOptions
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.records import ModuleInfo
from ..values.reductions import Reduction
from .sentences import option_name


def by_python_name(
    given: Mapping[str, Any],
    valid: Iterable[str],
    what: str = "Option",
    listed: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return values by Python's names: `BatchSize` and `batch_size` are the same; [] is None.

    `listed` are the names that a refusal lists: by default the valid ones.

    Raises InvalidRequestError for a name that is not valid.
    """
    names = {_bare(name): name for name in valid}
    for name in given:
        if _bare(name) not in names:
            told = ", ".join(map(option_name, names.values() if listed is None else listed))
            raise InvalidRequestError(
                f"{what} {name!r} is unknown; the valid names are {told}.", subject=name
            )
    return {names[_bare(name)]: _value(value) for name, value in given.items()}


def is_same(name: str, other: str) -> bool:
    """Tell whether two names, of MATLAB or of Python, are the same option's."""
    return _bare(name) == _bare(other)


def _bare(name: str) -> str:
    return name.replace("_", "").lower()


def _value(value: Any) -> Any:
    """Return an option's value: [] is None, and a whole number, a double in MATLAB, an integer."""
    if isinstance(value, list):
        return [_value(one) for one in value] or None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def open_client(given: Mapping[str, Any]) -> Client:
    """Return a client with the arguments of MATLAB's `Client`, whatever Python's takes."""
    valid = [name for name in inspect.signature(Client.__init__).parameters if name != "self"]
    values = by_python_name(given, valid, "Option")
    return Client(**{name: value for name, value in values.items() if value is not None})


def read_options(
    given: Mapping[str, Any],
    modules: Iterable[ModuleInfo] | None,
    listed: Iterable[str] | None = None,
) -> ExtractOptions:
    """Return the options of a forward pass. `modules` are those asked for, if their axes matter.

    `listed` are the names that a refusal lists: by default those of all options.

    Raises InvalidRequestError.
    """
    values = by_python_name(given, ExtractArguments.__annotations__, listed=listed)
    if isinstance(values.get("preprocessing"), Mapping):
        valid = {
            one.name for kind in (PreprocessingOverrides, Preprocessing) for one in fields(kind)
        }
        values["preprocessing"] = by_python_name(values["preprocessing"], valid, "Preprocessing")
    if isinstance(values.get("reduction"), Mapping):
        values["reduction"] = _reduction(values["reduction"], modules or ())
    return ExtractOptions.from_json(values)


def needs_axes(given: Mapping[str, Any]) -> bool:
    """Tell whether options name axes, whose places only the modules tell."""
    for name, value in given.items():
        if _bare(name) == "reduction" and isinstance(value, Mapping):
            axes = {_bare(key): one for key, one in value.items()}.get("poolaxes", [])
            return any(isinstance(axis, str) for axis in _as_list(axes))
    return False


def _reduction(given: Mapping[str, Any], modules: Iterable[ModuleInfo]) -> dict[str, Any]:
    """Return a reduction with places from 0, of MATLAB's from 1 or of the names of axes."""
    values = by_python_name(given, [one.name for one in fields(Reduction)], "Reduction")
    if "units" in values and values["units"] is None:  # such as of `find`: not all units
        raise InvalidRequestError("`Units` must have a place, got []: leave it out for all units.")
    found = {name: value for name, value in values.items() if value is not None}
    if "units" in found:
        found["units"] = [_from_zero("Units", unit) for unit in _as_list(found["units"])]
    if "pool_axes" in found:
        axes = _as_list(found["pool_axes"])
        if any(isinstance(axis, str) for axis in axes):
            found["pool_axes"] = _places(axes, modules)
        else:
            found["pool_axes"] = [_from_zero("PoolAxes", axis) for axis in axes]
    return found


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _from_zero(name: str, value: Any) -> Any:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 1 or value % 1:
        raise InvalidRequestError(f"`{name}` must be whole numbers from 1, got {value!r}.")
    return value - 1


def _places(names: list[Any], modules: Iterable[ModuleInfo]) -> list[int]:
    """Return the places of axes, which must be the same in all modules."""
    found = set()
    for module in modules:
        axes = module.output_axes
        if wrong := [name for name in names if name not in axes]:
            told = ", ".join(axis or "unknown" for axis in axes)
            raise InvalidRequestError(
                f"`PoolAxes` must name axes of module {module.name!r} ({told}), got {wrong[0]!r}: "
                "give their places in the server's order, from 1.",
                subject=module.name,
            )
        found.add(tuple(axes.index(name) for name in names))
    if len(found) != 1:
        raise InvalidRequestError(
            f"`PoolAxes` {names} are at different places in these modules: reduce each by itself."
        )
    return list(found.pop())


def read_images(given: Mapping[str, Any], pixels: Path) -> ImageQueue:
    """Return the images, or texts, of a request. Raises InvalidRequestError."""
    kind, folder = given["kind"], Path(given.get("folder") or ".")
    names = [str(name) for name in given.get("names") or []]
    if kind == "texts":
        return queue_texts(names)
    if kind == "pixels":
        return _read_pixels(pixels, [int(size) for size in given["size"]], names)
    if len(names) == 1 and (folder / names[0]).is_dir():
        root = folder / names[0]
        return queue_files(root, image_names(root))
    return queue_images([file_image(name, folder / name) for name in names])


def image_root(given: Mapping[str, Any]) -> Path | None:
    """Return the folder of the images' names; None if they are not files."""
    if given["kind"] != "files":
        return None
    folder, names = Path(given.get("folder") or "."), given.get("names") or []
    is_folder = len(names) == 1 and (folder / names[0]).is_dir()
    return folder / names[0] if is_folder else folder


def _read_pixels(path: Path, size: list[int], names: list[str]) -> ImageQueue:
    """Return images of MATLAB's H x W x 3 x N, whose first dimension is adjacent in memory."""
    height, width, channels, count = size
    if channels not in (1, 3) or 0 in size:
        raise InvalidRequestError(
            "An array of images must be uint8 of height x width x 3 (x images), got "
            f"{' x '.join(map(str, size))}."
        )
    if names and len(names) != count:
        raise InvalidRequestError(f"`Names` must have {count} entries, got {len(names)}.")
    stored = np.memmap(path, np.uint8, "r", shape=(count, channels, width, height))
    images = stored.transpose(0, 3, 2, 1)
    rows = [(name, np.array(images[row])) for row, name in enumerate(names or _numbers(count))]
    queue = queue_images(rows)
    del images, stored
    return queue


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]
