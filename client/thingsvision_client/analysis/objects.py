"""Features and RDMs as objects of rsatoolbox and xarray, with names and provenance.

Functions take what `Client.extract`, `Client.rdm` and `Client.rdm_of` return; none calls a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError, MissingDependencyError
from ..values.axes import CALLS, CHANNELS, FEATURES, HEIGHT, TOKENS, WIDTH
from .statistics import require_rsatoolbox

if TYPE_CHECKING:
    from ..rpc.extraction import Extraction
    from ..rpc.rdms import RDMs

IMAGE = "image"
UNIT = "unit"
INDEX = "index"
WHOLE_MODEL = "(model)"
"""Name for the model as a whole, whose module name is empty."""

_DIMENSIONS = {
    CHANNELS: "channel",
    HEIGHT: "height",
    WIDTH: "width",
    TOKENS: "token",
    FEATURES: UNIT,
    CALLS: "call",
}
"""Names of dimensions by what the server calls an axis."""

OTHER_IMAGE = "other_image"
"""The second axis of an RDM, which can't have the name of the first."""


@check_arguments
def to_dataset(extraction: Extraction, module: str | None = None) -> Any:
    """Return the features of a module as a Dataset of rsatoolbox.

    Args:
        extraction: What `Client.extract` returned.
        module: Name of the module; may be left out if there is only one.

    Returns:
        Images x units, flattened. `obs_descriptors` has the names of the images as `image`,
        `channel_descriptors` the position of each unit on the axes of `to_xarray` and its `index`
        in C order, `descriptors` the provenance.

    Raises:
        MissingDependencyError: rsatoolbox is not installed.
        InvalidRequestError: A module that is not in the extraction.

    Example:
        ```python
        from thingsvision_client import Client, to_dataset

        extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
        dataset = to_dataset(extraction)
        print(dataset.measurements.shape, dataset.obs_descriptors["image"])
        ```

    """
    toolbox = require_rsatoolbox("A Dataset")
    name = _module(extraction.features, module)
    features = extraction.features[name]
    shape = features.shape[1:]
    index = np.arange(prod(shape))
    places = dict(zip(_axes(extraction, name), np.unravel_index(index, shape), strict=True))
    return toolbox.data.Dataset(
        features.reshape(len(features), prod(shape)),
        descriptors={"module": name, **_attributes(extraction)},
        obs_descriptors={IMAGE: list(extraction.images)},
        channel_descriptors={INDEX: index, **places},
    )


@check_arguments
def to_rdms(rdms: RDMs) -> Any:
    """Return the RDMs of all modules as one RDMs object of rsatoolbox.

    Args:
        rdms: What `Client.rdm` or `Client.rdm_of` returned.

    Returns:
        RDMs whose `rdm_descriptors` has `module`, and whose `pattern_descriptors` has the names of
        the images as `image`.

    Raises:
        MissingDependencyError: rsatoolbox is not installed.

    Example:
        ```python
        from thingsvision_client import Client, to_rdms

        rdms = Client().rdm("torchvision/alexnet", "photos", ["features.3", "features.10"])
        print(to_rdms(rdms).rdm_descriptors["module"])
        ```

    """
    toolbox = require_rsatoolbox("An object of RDMs")
    return toolbox.rdm.RDMs(
        np.stack([rdm.astype(np.float64) for rdm in rdms.rdms.values()]),
        dissimilarity_measure=rdms.metric,
        descriptors=_attributes(rdms),
        rdm_descriptors={"module": list(rdms.rdms)},
        pattern_descriptors={IMAGE: list(rdms.images)},
    )


@check_arguments
def to_xarray(record: Extraction | RDMs, module: str | None = None) -> Any:
    """Return features or RDMs as an xarray Dataset, or those of one module as a DataArray.

    Axes of features are `image` and `unit`; for maps `image`, `channel`, `height` and `width`, in
    the model's order; for token sequences `image`, `token` and `unit`; `axis_1` and so on where the
    server does not know what an axis is. In a Dataset, all axes but `image` are prefixed with the
    module's name: `features.12.channel`. Axes of RDMs are `image` and `other_image`.

    Args:
        record: What `Client.extract`, `Client.rdm` or `Client.rdm_of` returned.
        module: Name of a module, for a DataArray.

    Returns:
        A Dataset with a variable per module, or a DataArray. Coordinates are the names of the
        images, `attrs` the provenance (JSON for anything that netCDF can't hold). The arrays share
        memory with `record`.

    Raises:
        MissingDependencyError: xarray is not installed.
        InvalidRequestError: A module that is not in the record.

    Example:
        ```python
        from thingsvision_client import Client, to_xarray

        extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
        print(to_xarray(extraction, "features.10").mean(dim=["height", "width"]).sizes)
        ```

    """
    try:
        import xarray
    except ImportError as error:
        raise MissingDependencyError(
            "to_xarray needs xarray: pip install 'thingsvision-service[rsa]'"
        ) from error
    arrays = record.rdms if hasattr(record, "rdms") else record.features
    attributes = _attributes(record)
    if module is not None:
        name = _module(arrays, module)
        return _data_array(xarray, record, name).assign_attrs(attributes)
    variables = {
        name or WHOLE_MODEL: _data_array(xarray, record, name, prefixed=True) for name in arrays
    }
    return xarray.Dataset(variables, attrs=attributes)


def _data_array(package: Any, record: Any, name: str, *, prefixed: bool = False) -> Any:
    names, title = list(record.images), name or WHOLE_MODEL
    if hasattr(record, "rdms"):
        coordinates = {IMAGE: names, OTHER_IMAGE: names}
        return package.DataArray(record.rdms[name], coordinates, list(coordinates), title)
    features = record.features[name]
    axes = [f"{title}.{axis}" if prefixed else axis for axis in _axes(record, name)]
    return package.DataArray(features, {IMAGE: names}, [IMAGE, *axes], title)


def _axes(extraction: Extraction, module: str) -> list[str]:
    """Return the names of the axes of one image's features, as the server told them."""
    shape = extraction.features[module].shape[1:]
    told = extraction.axes.get(module, ())
    if len(told) != len(shape):  # the features were replaced, or the server is an older one
        told = (FEATURES,) if len(shape) == 1 else ("",) * len(shape)
    return [_DIMENSIONS.get(axis, f"axis_{number}") for number, axis in enumerate(told, start=1)]


def _module(arrays: Mapping[str, Any], module: str | None) -> str:
    if module is None and len(arrays) == 1:
        return next(iter(arrays))
    if module is None or module not in arrays:
        what = "Choose a module" if module is None else f"There is no module {module!r}"
        raise InvalidRequestError(f"{what}; available: {', '.join(map(repr, arrays))}.")
    return module


def _attributes(record: Any) -> dict[str, Any]:
    """Return the provenance of features or RDMs, as texts and numbers."""
    if hasattr(record, "rdms"):
        known = record.provenance.to_dict() if record.provenance is not None else {}
        facts = {"metric": record.metric, **known}
    else:
        facts = record.to_dict()
    is_plain = (str, int, float)
    return {
        key: value if isinstance(value, is_plain) and not isinstance(value, bool) else _json(value)
        for key, value in facts.items()
    }


def _json(value: Any) -> str:
    return json.dumps(value, default=str)
