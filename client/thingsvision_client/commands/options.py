"""Options that commands share: types and help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidRequestError
from ..rpc.address import SERVER_VARIABLE
from ..values.options import OPTIONS
from ..values.preprocessing import PreprocessingOverrides
from .completion import complete_models, complete_modules, complete_sources, complete_values

_OF_MODEL = [
    option.name
    for option in OPTIONS.values()
    if option.is_of_model and option.name != "token_extraction"  # it has an option of its own
]

Server = Annotated[
    str | None,
    typer.Option(
        help=f"Address of the server, host:port; by default that of {SERVER_VARIABLE}.",
        metavar="ADDR",
    ),
]
NoProxy = Annotated[
    bool,
    typer.Option("--no-proxy", help="Connect without the proxy that http_proxy or the like names."),
]
ModelName = Annotated[
    str,
    typer.Option(
        help="The model: its name in --source, such as resnet50; or torchvision/resnet50, or with "
        "weights torchvision/resnet50@IMAGENET1K_V1, without --source.",
        metavar="NAME",
        autocompletion=complete_models,
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        help="Where the model comes from, such as torchvision or timm; not needed if --model-name "
        "says so, or is a name that only one source has.",
        metavar="SOURCE",
        autocompletion=complete_sources,
    ),
]
LibrarySource = Annotated[
    str | None,
    typer.Option(
        help="Where the model comes from, such as torchvision or timm. By default what "
        "--model-name says, else torchvision if it has a model of that name, else the only source "
        "that has.",
        metavar="SOURCE",
        autocompletion=complete_sources,
    ),
]
"""Of the commands whose default the original library gives."""
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON: all that the server reports.")]
Share = Annotated[
    bool,
    typer.Option("--share", help="Share it with your group, or, without one, with everybody."),
]
DeviceName = Annotated[
    str | None,
    typer.Option(help="Device that you expect the server to use; any other gives a warning."),
]
Pretrained = Annotated[
    bool, typer.Option(help="Pretrained weights, or random ones (the same for the same seed).")
]
ModelPath = Annotated[
    Path | None, typer.Option(help="File of your own weights (a state dict), which is uploaded.")
]
ShareWeights = Annotated[
    bool,
    typer.Option(
        "--share-weights",
        help="Share the file of --model-path with your group, or, without one, with everybody.",
    ),
]
ModelParameters = Annotated[
    str | None,
    typer.Option(
        help="JSON: '{\"weights\": TAG}' picks pretrained weights, '{\"seed\": N}' random ones, "
        "'{\"variant\": NAME}' a network of a family; "
        f"{', '.join(_OF_MODEL)} choose how features are computed and sent.",
        metavar="JSON",
    ),
]
ImageRoot = Annotated[
    Path,
    typer.Option(help="Folder of images, or of folders of images (classes), or an HDF5 file."),
]
HDF5Key = Annotated[
    str | None,
    typer.Option(help="Array of images in an HDF5 file; by default the only one.", metavar="NAME"),
]
Layout = Annotated[
    str | None,
    typer.Option(
        help="Axes of an array in an HDF5 file, such as NHWC, NCHW, NHW or HWC (N images, H "
        "height, W width, C channels), as h5py shows them. By default as its attributes or its "
        "shape say.",
        metavar="AXES",
    ),
]
ImageNames = Annotated[
    Path | None,
    typer.Option(
        help="File of the names of the images in an HDF5 file, one per line; by default their "
        "indices.",
        metavar="FILE",
    ),
]
ModuleName = Annotated[
    list[str],
    typer.Option(
        help="Module, as show-model prints it. May be given several times.",
        metavar="MODULE",
        autocompletion=complete_modules,
    ),
]
Metric = Annotated[
    str,
    typer.Option(
        help="Metric: correlation, cosine, euclidean or gaussian.",
        metavar="METRIC",
        autocompletion=complete_values("correlation", "cosine", "euclidean", "gaussian"),
    ),
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Images in a forward pass; the same number gives the same bits.")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace files of other results: else they are an error."),
]
OutPath = Annotated[
    Path, typer.Option(help="Folder for results, and for file_names.txt with a line per row.")
]
Streams = Annotated[
    str,
    typer.Option(
        help="Parts of a long extraction that are sent at the same time, each to the server of a "
        "cluster with the fewest calls: a number, or auto for as many as there are servers. The "
        "bits are those of one stream.",
        metavar="N",
        autocompletion=complete_values("auto"),
    ),
]
AllowMixed = Annotated[
    bool,
    typer.Option(
        "--allow-mixed",
        help="Let servers take part, and resume, that differ in hardware, cores or versions, so "
        "that last bits may differ: else the extraction stops.",
    ),
]
TokenExtraction = Annotated[
    str | None,
    typer.Option(
        help="For token sequences, select cls_token, avg_pool or cls_token+avg_pool.",
        metavar="KIND",
        autocompletion=complete_values("cls_token", "avg_pool", "cls_token+avg_pool"),
    ),
]


def _check_on_error(value: str) -> str:
    """Check what `--on-error` was given. Raises InvalidRequestError before anything is sent."""
    if value not in ("raise", "skip"):
        raise InvalidRequestError(f"--on-error must be raise or skip, got {value!r}.")
    return value


OnError = Annotated[
    str,
    typer.Option(
        help="What to do about images that can't be read or decoded: raise an error once the "
        "others are complete, or skip them and list them in skipped.txt.",
        metavar="WHAT",
        callback=_check_on_error,
    ),
]
OnErrorStops = Annotated[
    str,
    typer.Option(
        help="What to do about an image that can't be read or decoded: raise an error at once, or "
        "skip it.",
        metavar="WHAT",
        callback=_check_on_error,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        help="Resize images to this: pixels of the shorter side, or HEIGHTxWIDTH. "
        "By default as in the model's own preprocessing.",
        metavar="SIZE",
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        help="Crop the centre to this: pixels of its sides, or HEIGHTxWIDTH.", metavar="SIZE"
    ),
]
NoCrop = Annotated[bool, typer.Option("--no-crop", help="Do not crop.")]


def overrides(resize: str | None, crop: str | None, no_crop: bool) -> PreprocessingOverrides | None:
    """Return the changes that the preprocessing options make, None if none.

    Sizes are as in `--resize 256` and `--crop 224x192`. Raises InvalidRequestError.
    """
    if crop is not None and no_crop:
        raise InvalidRequestError("Pass --crop or --no-crop, not both.")
    if resize is None and crop is None and not no_crop:
        return None
    return PreprocessingOverrides(
        resize=None if resize is None else _size("--resize", resize),
        crop=False if no_crop else None if crop is None else _size("--crop", crop),
    )


def read_streams(text: str) -> int | str:
    """Return what `--streams` was given. Raises InvalidRequestError."""
    is_number = text.isascii() and text.isdigit()
    if not (is_number or text == "auto"):
        raise InvalidRequestError(f"--streams must be a number or auto, got {text!r}.")
    return int(text) if is_number else text


def _size(option: str, text: str) -> int | tuple[int, ...]:
    sizes = text.lower().split("x")
    if len(sizes) > 2 or not all(size.isascii() and size.isdigit() for size in sizes):
        raise InvalidRequestError(f"{option} must be a size such as 256 or 224x192, got {text!r}.")
    return int(text) if len(sizes) == 1 else tuple(map(int, sizes))
