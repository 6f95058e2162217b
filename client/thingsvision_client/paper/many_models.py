"""The same images through several models or modules, in one call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from ..files import file_stem
from ..formats import FORMATS, Column
from ..utils.storing import check_format, save_features
from .loading import load_dl
from .model import Model, require_flattening
from .prompt import find_module

if TYPE_CHECKING:
    from ..arrays import Array
    from ..values.records import ModuleInfo


@dataclass(frozen=True)
class Choice:
    """A model and one of its modules, or a pattern that several match."""

    model_name: str
    module_name: str


def choices(
    model_names: Sequence[str], module_names: Sequence[str], clip: bool | Sequence[bool]
) -> list[Choice]:
    """Return models and modules in pairs.

    Only the length of `clip` matters: the server knows which models are CLIP's. Raises
    InvalidRequestError for lists of different lengths.
    """
    flags = [clip] * len(model_names) if isinstance(clip, bool) else list(clip)
    lists = {"model_names": model_names, "module_names": module_names, "clip": flags}
    if texts := [name for name, value in lists.items() if isinstance(value, str)]:
        raise InvalidRequestError(f"{texts[0]} must be a list, such as [{lists[texts[0]]!r}].")
    counts = {name: len(value) for name, value in lists.items()}
    if len(set(counts.values())) != 1 or not model_names:
        raise InvalidRequestError(f"There must be one module (and clip) per model, got {counts}.")
    return [Choice(*pair) for pair in zip(model_names, module_names, strict=True)]


def get_module_names(model: Model, module: str) -> list[str]:
    """Return the names of all modules that match a pattern, in order of execution.

    Args:
        model: The model.
        module: A regular expression: `conv` matches any name that contains it, `conv$` names that
            end in it.

    Returns:
        The names.

    Raises:
        InvalidRequestError: `module` is not a regular expression.

    Example:
        ```python
        from thingsvision_client import vision
        from thingsvision_client.model_class import Model

        model = Model("alexnet", pretrained=True, device=None)
        print(vision.get_module_names(model, "^features"))
        ```

    """
    return [found.name for found in _match_modules(model.modules(), module)]


def get_features(
    root: str | Path,
    out_path: str | Path,
    model_names: Sequence[str],
    module_names: Sequence[str],
    clip: bool | Sequence[bool],
    pretrained: bool,
    batch_size: int,
    backend: str = "pt",
    flatten_acts: bool | None = None,
) -> dict[str, dict[str, Array]]:
    """Return the features of the same images from several models, with a forward pass per model.

    Args:
        root: Folder of images, or of class folders.
        out_path: Folder for `file_names.txt`, which has the name of each row's image.
        model_names: Models, as in `Model`.
        module_names: A module per model.
        clip: Has no effect, but there is one per model if it is a list.
        pretrained: Pretrained weights; False gives random ones, always the same.
        batch_size: Images in a forward pass.
        backend: `pt` or `tf`.
        flatten_acts: True gives images x units, False the activations' own shape; there is no
            default.

    Returns:
        Features, images x shape, by model and then module.

    Raises:
        InvalidRequestError: Lists of different lengths, or a missing `flatten_acts`.
        UnknownModelError: No source has a model.
        UnknownModuleError: A model has no such module.

    Example:
        ```python
        from thingsvision_client import vision

        names, modules = ["alexnet", "squeezenet1_0"], ["features.10", "features.12"]
        features = vision.get_features(
            "images", "results", names, modules,
            clip=False, pretrained=True, batch_size=64, flatten_acts=True,
        )
        print(features["alexnet"]["features.10"].shape)
        ```

    """
    chosen = choices(model_names, module_names, clip)
    study = Study(pretrained, batch_size, backend, require_flattening(flatten_acts))
    return dict(study.by_model(chosen, Path(root), Path(out_path)))


def extract_features_across_models_and_datasets(
    out_path: str | Path,
    model_names: Sequence[str],
    img_paths: Sequence[str | Path],
    module_names: Sequence[str],
    clip: bool | Sequence[bool],
    pretrained: bool,
    batch_size: int,
    backend: str = "pt",
    flatten_acts: bool | None = None,
    f_format: str = "txt",
) -> None:
    """Write the features of several folders of images, from one module of each of several models.

    Files are `{out_path}/{img_path}/{model}/{module}/features/features.{f_format}`, with
    `file_names.txt` beside them.

    Args:
        out_path: Folder for the files.
        model_names: Models, as in `Model`.
        img_paths: Folders of images, or of class folders.
        module_names: A module per model.
        clip: Has no effect, but there is one per model if it is a list.
        pretrained: Pretrained weights; False gives random ones, always the same.
        batch_size: Images in a forward pass.
        backend: `pt` or `tf`.
        flatten_acts: True gives images x units, False the activations' own shape; there is no
            default.
        f_format: Format of the files, as in `save_features`.

    Raises:
        InvalidRequestError: Lists of different lengths, a missing `flatten_acts`, or a format that
            can't hold the features; nothing is extracted then.

    Example:
        ```python
        from thingsvision_client import vision

        vision.extract_features_across_models_and_datasets(
            "results", ["alexnet", "squeezenet1_0"], ["images", "photos"],
            ["features.10", "features.12"], clip=False, pretrained=True, batch_size=64,
            flatten_acts=True, f_format="npy",
        )
        ```

    """
    study = Study(pretrained, batch_size, backend, require_flattening(flatten_acts))
    chosen = choices(model_names, module_names, clip)
    study.write_all(chosen, img_paths, Path(out_path), f_format, is_pattern=False)


def extract_features_across_models_datasets_and_modules(
    out_path: str | Path,
    model_names: Sequence[str],
    img_paths: Sequence[str | Path],
    module_names: Sequence[str],
    clip: bool | Sequence[bool],
    pretrained: bool,
    batch_size: int,
    backend: str = "pt",
    flatten_acts: bool | None = None,
    f_format: str = "txt",
) -> None:
    """Write the features of several folders of images, from several modules of several models.

    Files are `{out_path}/{img_path}/{model}/{module}/features/features.{f_format}`, with
    `file_names.txt` beside them.

    Args:
        out_path: Folder for the files.
        model_names: Models, as in `Model`.
        img_paths: Folders of images, or of class folders.
        module_names: A pattern per model, as in `get_module_names`; all modules that match it and
            can be extracted are.
        clip: Has no effect, but there is one per model if it is a list.
        pretrained: Pretrained weights; False gives random ones, always the same.
        batch_size: Images in a forward pass.
        backend: `pt` or `tf`.
        flatten_acts: True gives images x units, False the activations' own shape; there is no
            default.
        f_format: Format of the files, as in `save_features`.

    Raises:
        InvalidRequestError: Lists of different lengths, a missing `flatten_acts`, a pattern without
            a module, or a format that can't hold the features; nothing is extracted then.

    Example:
        ```python
        from thingsvision_client import vision

        vision.extract_features_across_models_datasets_and_modules(
            "results", ["alexnet"], ["photos"], ["^classifier[.][25]$"], clip=False,
            pretrained=True, batch_size=64, flatten_acts=True, f_format="npy",
        )
        ```

    """
    study = Study(pretrained, batch_size, backend, require_flattening(flatten_acts))
    chosen = choices(model_names, module_names, clip)
    study.write_all(chosen, img_paths, Path(out_path), f_format, is_pattern=True)


extract_features_across_datasets_and_modules = extract_features_across_models_datasets_and_modules


@dataclass(frozen=True)
class Study:
    """The options that all models of one call share."""

    pretrained: bool
    batch_size: int
    backend: str
    flatten: bool

    def by_model(
        self, chosen: Sequence[Choice], root: Path, out_path: Path
    ) -> Iterator[tuple[str, dict[str, Array]]]:
        """Yield each model and its features by module, from one forward pass per model."""
        for name in dict.fromkeys(choice.model_name for choice in chosen):
            modules = [choice.module_name for choice in chosen if choice.model_name == name]
            model = self._model(name)
            yield name, self._features(model, list(dict.fromkeys(modules)), root, out_path)

    def _model(self, name: str) -> Model:
        """Return a model, on any device of the server."""
        return Model(name, self.pretrained, None, backend=self.backend)

    def _features(
        self, model: Model, modules: Sequence[str], root: Path, out_path: Path
    ) -> dict[str, Array]:
        transforms = model.get_transformations()
        loader = load_dl(root, out_path, self.backend, self.batch_size, transforms=transforms)
        found: dict[str, Array] = model.extractor.extract_features(
            loader, module_names=modules, flatten_acts=self.flatten
        )
        return found

    def write_all(
        self,
        chosen: Sequence[Choice],
        img_paths: Sequence[str | Path],
        out_path: Path,
        f_format: str,
        *,
        is_pattern: bool,
    ) -> None:
        """Write the features of every folder and model, with one module's at a time in memory."""
        file_format = f_format.removeprefix(".")  # older scripts write .txt
        check_format(file_format, 1)
        if isinstance(img_paths, str):
            raise InvalidRequestError(f"img_paths must be a list, such as [{img_paths!r}].")
        plan = [(self._model(choice.model_name), choice) for choice in chosen]
        asked = [
            (model, choice.model_name, module)
            for model, choice in plan
            for module in self._modules(model, choice, file_format, is_pattern=is_pattern)
        ]
        for model, model_name, module in asked:
            for img_path in img_paths:
                folder = _folder(out_path, Path(img_path), model_name, module)
                features = self._features(model, [module], Path(img_path), folder)
                save_features(features[module], folder, file_format)

    def _modules(
        self, model: Model, choice: Choice, file_format: str, *, is_pattern: bool
    ) -> Iterator[str]:
        """Yield the modules that a choice selects. Raises InvalidRequestError if there is none."""
        name, modules = choice.module_name, model.modules()
        found = _match_modules(modules, name) if is_pattern else [find_module(name, modules)]
        usable = [module for module in found if module.extractable]
        if not usable:
            raise InvalidRequestError(
                f"{model} has no module that matches {name!r} and can be extracted.", subject=name
            )
        for module in usable:
            shape = (1,) if self.flatten else module.output_shape
            FORMATS[file_format].check([Column(module.name, shape, "float32")])
            yield module.name if is_pattern else name


def _match_modules(modules: Iterable[ModuleInfo], pattern: str) -> list[ModuleInfo]:
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise InvalidRequestError(
            f"{pattern!r} is not a regular expression ({error}): escape special characters with \\."
        ) from error
    return [module for module in modules if module.name and found.search(module.name)]


def _folder(out_path: Path, img_path: Path, model_name: str, module: str) -> Path:
    """Return a folder below `out_path`, whatever path the images have."""
    parts = [part for part in img_path.parts if part not in (img_path.anchor, "..")]
    return out_path.joinpath(*parts, file_stem(model_name), file_stem(module), "features")
