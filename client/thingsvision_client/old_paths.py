"""Paths and names of earlier versions of the original library: where they are, or what to use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

_PACKAGE = __name__.partition(".")[0]

_EXTRACTOR = "library.extractor.Extractor"
_RSA = ("compute_rdm", "correlate_rdms", "plot_rdm")
_SIMILARITIES = ("correlation_matrix", "cosine_matrix", "gaussian_kernel", "squared_dists")
_STORING = ("merge_features", "save_features", "split_features", "store_features")

HOMES: Mapping[str, str] = {
    "core.cka.base.CKA": "core.cka.CKA",
    "core.cka.cka_numpy.CKANumPy": "core.cka.CKA",
    "core.cka.cka_torch.CKATorch": "core.similarities.cka_torch",
    "core.cka.helpers.get_cka": "core.cka.get_cka",
    "core.extraction.base.BaseExtractor": _EXTRACTOR,
    "core.extraction.helpers.center_features": "core.features.center_features",
    "core.extraction.helpers.compress_features": "core.features.compress_features",
    "core.extraction.helpers.get_extractor": "library.extractor.get_extractor",
    "core.extraction.helpers.get_extractor_from_model": (
        "library.own_network.get_extractor_from_model"
    ),
    "core.extraction.helpers.normalize_features": "core.features.normalize_features",
    "core.extraction.tensorflow.TensorFlowExtractor": _EXTRACTOR,
    "core.extraction.torch.BatchExtraction": "library.batch_extraction.BatchExtraction",
    "core.extraction.torch.ImageOnlyDataloaderModifier": (
        "utils.images_only.ImageOnlyDataloaderModifier"
    ),
    "core.extraction.torch.PyTorchExtractor": _EXTRACTOR,
    **{f"core.rsa.helpers.{name}": f"core.rsa.{name}" for name in _RSA},
    **{f"core.rsa.helpers.{name}": f"core.similarities.{name}" for name in _SIMILARITIES},
    "dataloader.DataLoader": "utils.data.DataLoader",
    "dataset.ImageDataset": "paper.loading.image_dataset",
    "utils.checkpointing.get_torch_home": "utils.torch_home.get_torch_home",
    "utils.data.data_loader.DataLoader": "utils.data.DataLoader",
    "utils.data.dataset.HDF5Dataset": "utils.data.HDF5Dataset",
    "utils.data.dataset.ImageDataset": "utils.data.ImageDataset",
    "utils.imagenet.get_class_probabilities": "paper.classes.get_class_probabilities",
    "utils.imagenet.get_cls_mapping_imagenet": "paper.classes.get_cls_mapping_imagenet",
    **{f"utils.storing.helpers.{name}": f"utils.storing.{name}" for name in _STORING},
    "vision.get_cls_mapping_imgnet": "paper.classes.get_cls_mapping_imagenet",
    "vision.merge_activations": "paper.spellings.merge_features",
    "vision.split_activations": "paper.spellings.split_features",
    "vision.store_activations": "paper.spellings.store_features",
}
"""Where an old name is now, below this package."""

_BY_SOURCE = "get_extractor(model_name, pretrained, device, source) makes the extractor"
_ON_SERVER = "networks run on the server: use get_extractor(model_name, pretrained, device, source)"
_OWN = "get_extractor_from_model(network, device, backend) sends a network of yours"
_BATCH = "model.extract_features(...) gives what a forward hook sees"
_CLASSES = "use get_cls_mapping_imagenet(PATH), which reads both kinds of files"

_CUSTOM = (
    *("alexnet_ecoset", "alexnet_salobjsub", "align", "barlowtwins", "barlowtwins_rn50", "clip"),
    *("cornet", "dreamsim", "harmonization", "inception_ecoset", "official_clip", "openclip"),
    *("resnet50_ecoset", "sam", "swav", "swav_rn50", "vgg16_ecoset", "vgg16bn_ecoset", "vicreg"),
    "vicreg_rn50",
)
_MODELS = ("", ".dino", ".mae", ".sam")

ADVICE: Mapping[str, str] = {
    "clip.*": f"{_ON_SERVER} with source='custom' and model_name='clip'",
    "cornet.*": f"{_ON_SERVER} with source='custom' and model_name='cornet-s', for example",
    "core.cka.cka_base.CKABase": "core.cka.CKA compares features; there is no base class",
    "core.extraction.create_custom_extractor": _BY_SOURCE,
    "core.extraction.create_model_extractor": _OWN,
    "core.extraction.extractor.*": _BY_SOURCE,
    "core.extraction.extractors.*": _BY_SOURCE,
    "core.extraction.helpers.create_custom_extractor": _BY_SOURCE,
    "core.extraction.helpers.create_model_extractor": _OWN,
    "core.extraction.mixin.*": _BY_SOURCE,
    **{
        f"cornet.cornet_{kind}.*": f"{_ON_SERVER} with source='custom'"
        for kind in ("r", "rt", "s", "z")
    },
    **{f"custom_models.{name}.*": f"{_ON_SERVER} with source='custom'" for name in _CUSTOM},
    **{f"utils.models{name}.*": f"{_ON_SERVER} with source='ssl' or 'custom'" for name in _MODELS},
    "custom_models.*": f"{_ON_SERVER} with source='custom', and {_OWN}",
    "custom_models.custom.*": _OWN,
    "model.*": f"{_ON_SERVER} with source='custom' and model_name='clip'",
    "simple_tokenizer.*": "extractor.extract_text_features(texts) takes texts as they are",
    "utils.alignment.*": "use extractor.align(features, module_name)",
    "utils.alignment.transforms.*": "use extractor.align(features, module_name)",
    "utils.imagenet.parse_imagenet_classes": _CLASSES,
    "utils.imagenet.parse_imagenet_synsets": _CLASSES,
    "utils.checkpointing.*": "weights are in a folder of the server (--weights-dir)",
    "utils.data.helpers.*": "ImageDataset finds the images of a folder",
    "vision.compose_transforms": "use model.get_transformations(resize_dim, crop_dim)",
    "vision.ensemble_featmaps": _BATCH,
    "vision.enumerate_layers": "model.model.named_modules() lists the modules",
    "vision.get_activation": _BATCH,
    "vision.get_class_intersection": "use set(a) & set(b)",
    "vision.json2dict": "use json.load",
    "vision.parse_imagenet_classes": _CLASSES,
    "vision.parse_imagenet_synsets": _CLASSES,
    "vision.pickle_file_": "use pickle.dump",
    "vision.register_hook": _BATCH,
    "vision.rm_suffix": "use pathlib.Path(name).stem",
}
"""What to use in the place of an old name that is not here; `*` stands for all of a module."""


def old_names(path: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module for its old names.

    It raises ImportError with advice for a name in ADVICE: Python drops the text of an
    AttributeError in `from ... import`.
    """
    below = path.removeprefix(f"{_PACKAGE}.")

    def find(name: str) -> Any:
        home = HOMES.get(f"{below}.{name}")
        if home is not None:
            module, _, found = home.rpartition(".")
            return getattr(import_module(f"{_PACKAGE}.{module}"), found)
        advice = ADVICE.get(f"{below}.{name}") or ADVICE.get(f"{below}.*")
        if advice is None or name.startswith("__"):
            raise AttributeError(f"module {path!r} has no attribute {name!r}")
        raise ImportError(f"{path} has no {name!r} here: {advice}.", name=path)

    return find


def add_old_paths(parent: str) -> None:
    """Make the old paths below a module importable; called by that module itself.

    Python looks for `parent.child` in `sys.modules` once it has imported the parent.
    """
    for path in _old_modules(parent.removeprefix(_PACKAGE).removeprefix(".")):
        name = f"{_PACKAGE}.{path}"
        module = ModuleType(name, f"A path of the original library; see {__name__}.")
        vars(module)["__getattr__"] = old_names(name)
        sys.modules[name] = module
        above, _, child = name.rpartition(".")
        setattr(sys.modules[above], child, module)


def _old_modules(below: str) -> list[str]:
    """Return the modules in the tables that a module stands directly above, without itself."""
    paths = {key.rpartition(".")[0] for key in (*HOMES, *ADVICE)} - {"vision", *_REAL}
    return sorted(path for path in paths if _real_above(path) == below)


def _real_above(path: str) -> str:
    """Return the module of this package that an old path is below; empty for the package."""
    return max((real for real in _REAL if path.startswith(f"{real}.")), key=len, default="")


_REAL = ("core.cka", "core.extraction", "core.rsa", "utils", "utils.data", "utils.storing")
"""The modules below this package that call `add_old_paths`."""
