"""Groups of options that commands share: a command takes the fields of a group as its options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import update_wrapper
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import InvalidRequestError
from ..images.folder import SUFFIXES
from ..values.preprocessing import PreprocessingOverrides
from .options import (
    BatchSize,
    Crop,
    DeviceName,
    HDF5Key,
    ImageNames,
    ImageRoot,
    Layout,
    LibrarySource,
    ModelName,
    ModelParameters,
    ModelPath,
    NoCrop,
    Pretrained,
    Resize,
    Server,
    ShareWeights,
    Source,
    TokenExtraction,
    overrides,
)


@dataclass(frozen=True)
class ModelOptions:
    """Which model, with which weights, of which server."""

    model_name: ModelName
    source: Source = None
    pretrained: Pretrained = True
    device: DeviceName = None
    model_path: ModelPath = None
    share_weights: ShareWeights = False
    model_parameters: ModelParameters = None
    server: Server = None

    @property
    def preferred(self) -> str:
        """The source of a name that several sources have; empty if none is preferred."""
        return ""


@dataclass(frozen=True)
class LibraryModelOptions(ModelOptions):
    """As `ModelOptions`, with the defaults of the original library."""

    model_name: ModelName = "alexnet"
    source: LibrarySource = None

    @property
    def preferred(self) -> str:
        """The source of a bare name: the library's default."""
        return "torchvision"


@dataclass(frozen=True)
class ImageOptions:
    """Where images are, a folder or an array of an HDF5 file, and how they are preprocessed."""

    image_root: ImageRoot
    resize: Resize = None
    crop: Crop = None
    no_crop: NoCrop = False
    hdf5_key: HDF5Key = None
    layout: Layout = None
    names: ImageNames = None

    def __post_init__(self) -> None:
        """Check the sizes before anything is sent. Raises InvalidRequestError."""
        _ = self.changes

    @property
    def changes(self) -> PreprocessingOverrides | None:
        """The changes of the model's own preprocessing."""
        return overrides(self.resize, self.crop, self.no_crop)

    @property
    def is_file(self) -> bool:
        """Whether the images are in an HDF5 file; checks the options of such a file."""
        is_file = self.image_root.is_file()
        if is_file and self.image_root.suffix.lower() in SUFFIXES:
            raise InvalidRequestError(
                "--image-root must be a folder of images, or an HDF5 file, got the image "
                f"{self.image_root}: name its folder."
            )
        if not is_file and (self.hdf5_key, self.layout, self.names) != (None, None, None):
            raise InvalidRequestError(
                "--hdf5-key, --layout and --names are for an --image-root that is an HDF5 file, "
                f"got {self.image_root}."
            )
        return is_file


@dataclass(frozen=True)
class LibraryImageOptions(ImageOptions):
    """As `ImageOptions`, with the defaults of the original library."""

    image_root: ImageRoot = Path("images")


@dataclass(frozen=True)
class PassOptions:
    """How images run through a model, and what is taken of its activations."""

    batch_size: BatchSize = 32
    token_extraction: TokenExtraction = None


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its groups, which are dataclasses, as options.

    Its signature shows them where the group stands, for `--help` and completion.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    def run(**options: Any) -> None:
        for name, kind in groups.items():
            given = {one.name: options.pop(one.name) for one in fields(kind)}
            options[name] = kind(**given)
        command(**options)

    shown = [
        option
        for one in signature(command).parameters.values()
        for option in (
            _options_of(groups[one.name])
            if one.name in groups
            else [one.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[one.name])]
        )
    ]
    update_wrapper(run, command)
    run.__annotations__ = {one.name: one.annotation for one in shown}
    run.__signature__ = Signature(shown)  # type: ignore[attr-defined]
    return run


def _options_of(group: Any) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        default = getattr(group, one.name, Parameter.empty)
        yield Parameter(
            one.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[one.name]
        )
