"""The library's extractor: features of a model's modules by the names THINGSvision gave them.

Forward passes run on the server; files and formats stay with the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls.arguments import as_folder
from ..calls.signatures import check_arguments
from ..display.cards import Shown
from ..errors import BadImage, BadImagesError
from ..images.texts import queue_texts, text_tower
from ..jobs import FolderOptions, of_present
from ..origins import record_fingerprints, remember_extraction
from ..utils.data import ImageBatch
from ..utils.transforms import ServerTransforms
from ..values.preprocessing import PreprocessingOverrides
from .alignment import align
from .attributes import ServedAttributes
from .batch_extraction import BatchExtraction
from .batches import batches_of
from .devices import DeviceName
from .leaving_out import leave_out
from .outline import outline
from .outputs import OUTPUT_TYPES, Output, converter
from .request import Choices, FeatureRequest, ServedModel
from .serving import find_served_model
from .untrained import change_sizes, with_sizes

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..display.progress import ProgressChoice
    from ..images.texts import Texts


@check_arguments
def get_extractor(
    model_name: str,
    pretrained: bool,
    device: DeviceName,
    source: str,
    model_path: str | Path | None = None,
    model_parameters: Mapping[str, Any] | None = None,
    *,
    server: str | None = None,
    share: bool = False,
) -> Extractor:
    """Return an extractor of a model on the server.

    Args:
        model_name: Name of the model in its source, such as `alexnet`.
        pretrained: Pretrained weights; False gives random ones, the same for the same
            `model_parameters["seed"]` (0 by default), and the preprocessing that the library has
            without pretrained weights, also for `model_path`.
        device: Device of the server that you expect, or None. For any other there is a warning, and
            the server uses its own.
        source: Source of the model, such as `torchvision`, `timm` or `custom`.
        model_path: File of your own weights, which is uploaded.
        model_parameters: Any of `seed` (of random weights), `weights` or `dataset` (tag of
            pretrained weights), `variant` (of a family, such as `ViT-B/32` of `clip`; by default
            the library's), `part` (of the checkpoint in `model_path`, such as `ema` or `module.`,
            where several fit), options of `Client.extract` but `batch_size` and `preprocessing`,
            such as `token_extraction`.
        server: Address, host:port; by default that of `Client()`.
        share: Whether to let others use the file of `model_path` too, as with `Client.share`.

    Returns:
        The extractor; the server loads the model at the first extraction.

    Raises:
        UnknownSourceError: The server has no such source; near matches are named.
        UnknownModelError: The source has no such model; near matches are named.
        InvalidRequestError: An unknown key in `model_parameters`, or one that contradicts the rest;
            or `share` without `model_path`.

    Example:
        ```python
        from thingsvision_client import get_extractor

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        extractor.show_model()
        ```

    """
    choices = Choices(
        model_name,
        pretrained=pretrained,
        device=device,
        model_path=model_path,
        model_parameters=model_parameters or {},
        share=share,
    )
    return Extractor(find_served_model(source, choices, server))


@check_arguments
class Extractor(Shown, ServedAttributes):
    """A model on a server, ready to give features; made by `get_extractor`, or by its arguments.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=32)
        features = extractor.extract_features(batches, module_name="features.10", flatten_acts=True)
        print(features.shape)
        ```

    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        served = arguments[0] if arguments else None
        if not isinstance(served, ServedModel):  # as `Extractor` of version 2.0 was called
            served = get_extractor(*arguments, **options)._served  # noqa: SLF001 - of this class
        super().__init__(served)

    def _facts(self) -> dict[str, Any]:
        return {
            "model": self._served.model,
            "backend": self._served.backend,
            "server": self._served.client.server,
            "tokens": self._served.options.token_extraction,
        }

    def extract_features(
        self,
        batches: Any,
        module_name: str | None = None,
        module_names: Sequence[str] | None = None,
        flatten_acts: bool = False,
        output_type: str = "ndarray",
        output_dir: str | Path | None = None,
        step_size: int | None = None,
        file_name_suffix: str = "",
        save_in_one_file: bool = False,
        *,
        clip: bool = False,
        on_error: str = "raise",
        progress: ProgressChoice = None,
        streams: int | str = 1,
        allow_mixed: bool = False,
    ) -> Any:
        """Return the features of all images, in the order of the dataset's `file_names.txt`.

        With `output_dir`, rows go to disk as they arrive, and None is returned. The same call
        resumes where it was interrupted. The files are
        `{module}/features{file_name_suffix}_{start}-{end}.npy` (`.pt` for tensors).

        Args:
            batches: A DataLoader of this package, whose images the server preprocesses as the
                dataset's transforms say; torch's DataLoader of such a dataset; or any iterable of
                arrays or tensors of floats, images x one input's shape, that you preprocessed
                (of tuples, such as (images, targets), the first is taken), or of lists of
                Pillow images or uint8 arrays of height x width x 3, which the server
                preprocesses.
            module_name: Name of a module, for an array.
            module_names: Names of modules, for a dict of arrays from one forward pass. Give either
                this or `module_name`.
            flatten_acts: Return images x (everything else, C order); by default the activations'
                own shape.
            output_type: `ndarray` or `tensor` (of PyTorch).
            output_dir: Folder for the features, in the place of memory.
            step_size: Batches in a file of `output_dir`; by default the files of all modules
                together have about 128 MiB, of at most 1,024 images.
            file_name_suffix: Goes into the names of the files.
            save_in_one_file: Join the files of a module at the end.
            clip: Has no effect, as in version 2.0 for networks that take images alone: the server
                knows which models are CLIP's.
            on_error: What to do about images that can't be read or decoded: `raise` an error once
                the others are complete, or `skip` them: they are left out of the features, of the
                dataset's `names` and `targets` and of its `file_names.txt`, and listed in
                `skipped.txt`. Other images' features have the same bits either way. Batches of a
                part of a dataset, such as torch's Subset, whose names can't follow, give the error.
            progress: True for a bar, False for none; by default there is a bar in terminals and in
                Jupyter. A function is called with a stage (`loading MODEL`, `extracting`), the
                images done, and their number (None if unknown).
            streams: Parts of a long extraction that are sent at the same time, each to the server
                of a cluster with the fewest calls: a number, or `auto` for as many as there are
                servers. The bits are those of one stream.
            allow_mixed: Let servers take part, and go on with a resumed extraction, that differ in
                hardware, cores or versions, so that last bits may differ; else it stops.

        Returns:
            Images x shape, float32, or a dict of such arrays by module; None with `output_dir`.

        Raises:
            UnknownModuleError: The model has no such module.
            BadImagesError: Images can't be read or decoded: all of them are in its `bad`, and what
                would have been returned for the others is its `result` (or in `output_dir`).
            MixedServersError: Servers of the cluster would compute other bits than the first rows.
            InvalidRequestError: Any other invalid argument.
            TypeError: `batches` has something that is not a batch.
            MissingDependencyError: `tensor` without PyTorch.

        Example:
            ```python
            from thingsvision_client import get_extractor, load_batches

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            batches = load_batches("photos", "results", extractor.get_backend(), batch_size=32)
            modules = ["features.3", "features.10"]
            features = extractor.extract_features(batches, module_names=modules, flatten_acts=True)
            print({name: rows.shape for name, rows in features.items()})
            ```

        """
        output = Output(module_name, module_names, output_type)
        request = self._request(
            batches,
            output,
            flatten_acts,
            on_error=on_error,
            progress=progress,
            streams=streams,
            allow_mixed=allow_mixed,
        )
        folder = None if output_dir is None else as_folder("output_dir", output_dir)
        if folder is None:
            features, left_out = _extract(request, output)
        else:
            options = FolderOptions(step_size, file_name_suffix, output_type, save_in_one_file)
            features, left_out = None, of_present(request.to_folder(folder, options))
        leave_out(batches, request.images.rows, left_out, result=features, folder=folder)
        return features

    def _request(
        self, batches: Any, output: Output, flatten: bool, **options: Any
    ) -> FeatureRequest:
        """Return a request, once the server has a network of the user's for such inputs."""
        images = batches_of(batches, is_own=self._served.network is not None)
        served = self._served.for_inputs(images.input_shape)
        if served.model != self._served.model:
            self._show(served)
        return FeatureRequest(self._served, images, output.modules, flatten, **options)

    def extract_batch(
        self,
        batch: Any,
        module_name: str | None = None,
        module_names: Sequence[str] | None = None,
        flatten_acts: bool = False,
        output_type: str = "ndarray",
    ) -> Any:
        """Return the features of one batch, from one forward pass.

        Args:
            batch: An array or tensor of images x one input's shape, that you preprocessed; a list
                of Pillow images, or of uint8 arrays of height x width x 3; or what iterating a
                DataLoader of this package gives.
            module_name: Name of a module, for an array.
            module_names: Names of modules, for a dict of arrays. Give either this or `module_name`.
            flatten_acts: Return images x (everything else, C order); by default the activations'
                own shape.
            output_type: `ndarray` or `tensor` (of PyTorch).

        Returns:
            Images x shape, float32, or a dict of such arrays by module.

        Raises:
            UnknownModuleError: The model has no such module.
            InvalidRequestError: Any other invalid argument.
            TypeError: `batch` is not a batch.

        Example:
            ```python
            from thingsvision_client import get_extractor, load_batches

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            for batch in load_batches("photos", "results", extractor.get_backend(), batch_size=2):
                print(batch, extractor.extract_batch(batch, "features.10").shape)
            ```

        """
        batches = batch if isinstance(batch, ImageBatch) else [batch]
        return self.extract_features(
            batches,
            module_name,
            module_names,
            flatten_acts=flatten_acts,
            output_type=output_type,
            progress=False,  # a loop over batches would leave a bar for each
        )

    def batch_extraction(
        self,
        module_name: str | None = None,
        module_names: Sequence[str] | None = None,
        output_type: str = "ndarray",
    ) -> BatchExtraction:
        """Return a context for the loop over a data pipeline of your own.

        Args:
            module_name: Name of a module, for arrays.
            module_names: Names of modules, for dicts of arrays. Give either this or `module_name`.
            output_type: `ndarray` or `tensor` (of PyTorch).

        Returns:
            A context whose `extract_batch` returns the features of one batch.

        Raises:
            InvalidRequestError: Both or none of `module_name` and `module_names`, or an unknown
                `output_type`.
            MissingDependencyError: `tensor` without PyTorch.

        Example:
            ```python
            import numpy as np
            from thingsvision_client import get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            batches = np.zeros((3, 4, 3, 224, 224), np.float32)  # yours: 3 batches of 4 inputs
            with extractor.batch_extraction("features.10") as e:
                rows = [e.extract_batch(batch, flatten_acts=True) for batch in batches]
            print(np.concatenate(rows).shape)
            ```

        """
        Output(module_name, module_names, output_type)  # checks them
        return BatchExtraction(
            partial(
                self.extract_batch,
                module_name=module_name,
                module_names=module_names,
                output_type=output_type,
            )
        )

    def align(
        self,
        features: npt.ArrayLike,
        module_name: str,
        alignment_type: str = "gLocal",
        *,
        transform: str | Path | None = None,
    ) -> Any:
        """Return features aligned with human similarity judgments.

        The z-score and affine map of Muttenthaler et al. (2023) are computed on this machine.

        Args:
            features: Features of a module, images x units; an array or a tensor.
            module_name: Name of the module.
            alignment_type: Name of the folder of transforms.
            transform: An .npz file with `mean`, `std`, `weights` and optionally `bias`; by default
                `{alignment_type}/{source}/{model}/{module}.npz` in ~/.cache/thingsvision/transforms
                or the folder that THINGSVISION_TRANSFORMS_DIR names.

        Returns:
            Images x dimensions, as an array or a tensor like `features`.

        Raises:
            InvalidRequestError: There is no such file, or it does not fit the features.

        Example:
            ```python
            from pathlib import Path
            import numpy as np
            from thingsvision_client import get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            Path("results").mkdir(exist_ok=True)  # in the place of a published transform:
            np.savez("results/transform.npz", mean=0.0, std=1.0, weights=np.eye(4096, 100))
            features = np.ones((5, 4096), np.float32)
            aligned = extractor.align(features, "classifier.5", transform="results/transform.npz")
            print(aligned.shape)
            ```

        """
        return align(
            features,
            self._served.model,
            module_name,
            alignment_type=alignment_type,
            transform=transform,
        )

    def show_model(self) -> None:
        """Print the model's modules as a tree, with their settings and output shapes.

        Example:
            ```python
            from thingsvision_client import get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            extractor.show_model()
            ```

        """
        print(self.model if self._is_waiting else outline(self._module_list()))

    def show(self) -> None:
        """Do as `show_model`, under the library's earlier name.

        Example:
            ```python
            from thingsvision_client import get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            extractor.show()
            ```

        """
        self.show_model()

    def get_module_names(self) -> list[str]:
        """Return the names of all modules inside the model, in order of execution.

        Returns:
            The names. The whole model, whose name is `""`, is not among them.

        Example:
            ```python
            from thingsvision_client import get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            print(extractor.get_module_names())
            ```

        """
        if self._is_waiting:
            return [name for name, _ in self.model.named_modules() if name]
        return [module.name for module in self._module_list() if module.name]

    def extract_text_features(
        self,
        texts: Texts,
        module_name: str | None = None,
        output_type: str = "ndarray",
        *,
        batch_size: int | None = None,
    ) -> Any:
        """Return features of texts, in the same space as the model's features of images.

        Args:
            texts: A text, or an iterable of texts or pairs (name, text).
            module_name: Name of a module that sees texts; by default the model's complete text
                tower.
            output_type: `ndarray` or `tensor` (of PyTorch).
            batch_size: Texts in a forward pass; None lets the server merge texts as they come.

        Returns:
            Texts x width, float32.

        Raises:
            InvalidRequestError: The model sees images only, or there are no texts.
            MissingDependencyError: `tensor` without PyTorch.

        Example:
            ```python
            from thingsvision_client import get_extractor

            parameters = {"variant": "ViT-B/32"}
            extractor = get_extractor("clip", True, None, "custom", model_parameters=parameters)
            texts = ["a photo of a cat", "a photo of a rocket"]
            print(extractor.extract_text_features(texts).shape)
            ```

        """
        convert = converter(output_type)
        module = text_tower(self._module_list()) if module_name is None else module_name
        queue, sent = record_fingerprints(queue_texts(texts))
        # Options about images don't apply to texts.
        options = replace(
            self.options, batch_size=batch_size, token_extraction=None, preprocessing=None
        )
        result = self.client.extract(self._served.model, queue, module, **vars(options))
        remember_extraction(result, sent, options=options)
        return convert(result.features[module])

    def get_transformations(
        self, resize_dim: int = 256, crop_dim: int = 224, apply_center_crop: bool = True
    ) -> ServerTransforms:
        """Return the preprocessing that the server applies, for `ImageDataset(transforms=...)`.

        Called with a Pillow image, or a uint8 array of height x width x 3, it returns the input
        that the server would feed the model, to the last bit. A dataset may have the transforms of
        another model's extractor too, which then take the place of the model's own.

        Without arguments it is the model's own preprocessing, whatever its sizes. If any argument
        differs from its default, all three are taken as they are given; the rest stays the model's
        own. As in the library, networks of torchvision that were made with `pretrained=False` have
        one preprocessing in place of their own: resizing to `resize_dim` (bilinear), the centre
        crop, and ImageNet's mean and standard deviation. Keras's are resized without smoothing.
        Models that keep their own preprocessing there, such as timm's, keep it with
        `pretrained=False`, whatever the arguments; there is a warning.

        Args:
            resize_dim: Pixels of the shorter side after resizing.
            crop_dim: Pixels of the sides of the centre crop.
            apply_center_crop: Whether to crop.

        Returns:
            The model's own preprocessing and the changes of it.

        Example:
            ```python
            from thingsvision_client import ImageDataset, get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            transforms = extractor.get_transformations(resize_dim=224, apply_center_crop=False)
            print(transforms)
            dataset = ImageDataset("photos", "results", backend="pt", transforms=transforms)
            ```

        """
        changes = self.changes
        if (resize_dim, crop_dim, apply_center_crop) != (256, 224, True):
            change = change_sizes if self.pretrained else partial(with_sizes, self._served.model)
            crop = crop_dim if apply_center_crop or self.backend == "tf" else False
            changes = change(changes, PreprocessingOverrides(resize=resize_dim, crop=crop))
        if self._is_waiting:
            return ServerTransforms(changes, client=self.client, backend=self.backend)
        model = self._served.model
        own = self.client.preprocessing(model)
        return ServerTransforms(changes, own, model, self.client, backend=self.backend)

    def get_backend(self) -> str:
        """Return the framework that runs the model on the server.

        Returns:
            `pt` or `tf`.

        Example:
            ```python
            from thingsvision_client import get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            print(extractor.get_backend())
            ```

        """
        return self.backend

    def get_output_types(self) -> list[str]:
        """Return what `output_type` may be.

        Returns:
            `ndarray` and `tensor`.

        Example:
            ```python
            from thingsvision_client import get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            print(extractor.get_output_types())
            ```

        """
        return list(OUTPUT_TYPES)


def _extract(request: FeatureRequest, output: Output) -> tuple[Any, Sequence[BadImage]]:
    """Return features in the form that was asked for, and the images without a row."""
    try:
        arrays, left_out = request.arrays()
    except BadImagesError as error:
        if error.result is None:
            raise
        raise error.with_result(output.form(error.result)) from None
    return output.form(arrays), left_out
