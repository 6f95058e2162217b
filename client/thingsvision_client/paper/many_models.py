"""The same images through several models or modules, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..calls.signatures import check_arguments
from .model import Model, require_flattening
from .study import Study, choices, match_modules

if TYPE_CHECKING:
    from ..arrays import Array


@check_arguments
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
    return [found.name for found in match_modules(model.modules(), module)]


@check_arguments
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


@check_arguments
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


@check_arguments
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
