"""Models, their modules and folders of images of one call: a forward pass per model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..calls.arguments import expand_home
from ..errors import BadImagesError, InvalidRequestError
from ..files import file_stem
from ..formats import Column, find_format
from ..utils.storing import check_format
from .loading import load_dl
from .model import Model
from .prompt import find_module
from .spellings import save_features

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
        raise InvalidRequestError(f"`{texts[0]}` must be a list, such as [{lists[texts[0]]!r}].")
    counts = {name: len(value) for name, value in lists.items()}
    if len(set(counts.values())) != 1 or not model_names:
        raise InvalidRequestError(f"There must be one module and one clip per model, got {counts}.")
    return [Choice(*pair) for pair in zip(model_names, module_names, strict=True)]


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
        try:
            found: dict[str, Array] = model.extractor.extract_features(
                loader, module_names=modules, flatten_acts=self.flatten
            )
        except BadImagesError as error:  # the features of one model are not this call's result
            count = len(loader.dataset.names)
            raise BadImagesError.of(error.bad, count, "Repair or remove these images.") from None
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
            raise InvalidRequestError(f"`img_paths` must be a list, such as [{img_paths!r}].")
        plan = [(self._model(choice.model_name), choice) for choice in chosen]
        asked = [
            (model, choice.model_name, module)
            for model, choice in plan
            for module in self._modules(model, choice, file_format, is_pattern=is_pattern)
        ]
        roots = [Path(expand_home(path)) for path in img_paths]
        for model, model_name, module in asked:
            for root in roots:
                folder = _folder(out_path, root, model_name, module)
                features = self._features(model, [module], root, folder)
                save_features(features[module], folder, file_format)

    def _modules(
        self, model: Model, choice: Choice, file_format: str, *, is_pattern: bool
    ) -> Iterator[str]:
        """Yield the modules that a choice selects. Raises InvalidRequestError if there is none."""
        name, modules = choice.module_name, model.modules()
        found = match_modules(modules, name) if is_pattern else [find_module(name, modules)]
        usable = [module for module in found if module.extractable]
        if not usable:
            raise InvalidRequestError(
                f"{model} has no module that matches {name!r} and can be extracted.", subject=name
            )
        for module in usable:
            shape = (1,) if self.flatten else module.output_shape
            find_format(file_format).check([Column(module.name, shape, "float32")])
            yield module.name if is_pattern else name


def match_modules(modules: Iterable[ModuleInfo], pattern: str) -> list[ModuleInfo]:
    """Return the modules whose names a pattern matches. Raises InvalidRequestError."""
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
