"""The command line: every command is a few calls of `Client`, with files at the end."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from .channel import SERVER_VARIABLE
from .client import Client, shared_client
from .errors import InvalidRequestError, ThingsvisionError
from .options import (
    BatchSize,
    Crop,
    DeviceName,
    ImageRoot,
    ModelName,
    ModelParameters,
    ModelPath,
    ModuleName,
    NoCrop,
    OutPath,
    Pretrained,
    Resize,
    Server,
    Source,
    TokenExtraction,
    overrides,
)

app = typer.Typer(
    help="Features and RDMs of vision models, computed by a THINGSvision server. Name the server "
    f"with --server host:port or in the environment variable {SERVER_VARIABLE}; "
    "`thingsvision-server` starts one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def models(
    name_glob: Annotated[str, typer.Argument(help="Only names like this, e.g. 'resnet*'.")] = "",
    source: Annotated[str, typer.Option(help="Only models of this source.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with the preprocessing of all weights.")
    ] = False,
    server: Server = None,
) -> None:
    """List the models that the server can run, with their pretrained weights."""
    from .tables import model_lines, models_json

    found = shared_client(server).models(source, name_glob)
    if not found:
        raise InvalidRequestError("The server has no such model; try `models` without a filter.")
    typer.echo(models_json(found) if as_json else "\n".join(model_lines(found)))


@app.command()
def show_model(
    model_name: ModelName,
    source: Source,
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    server: Server = None,
) -> None:
    """Print a model's modules as a tree: names for --module-name, settings, output shapes."""
    client = shared_client(server)
    _extractor(
        client, model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
    ).show_model()  # fmt: skip


@app.command()
def extract_features(
    model_name: ModelName,
    source: Source,
    image_root: ImageRoot,
    module_name: ModuleName,
    out_path: OutPath,
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    batch_size: BatchSize = 32,
    token_extraction: TokenExtraction = None,
    resize: Resize = None,
    crop: Crop = None,
    no_crop: NoCrop = False,
    flatten_acts: Annotated[
        bool, typer.Option("--flatten-acts", help="Make features images x units.")
    ] = False,
    file_format: Annotated[
        str | None, typer.Option(help="npy for one module, npz for several (the default).")
    ] = None,
    server: Server = None,
) -> None:
    """Extract features of a folder of images, and write features.npy (or .npz) to --out-path."""
    from .bar import progress_bar
    from .utils.data import DataLoader
    from .utils.storing import check_format, save_features

    file_format = file_format or ("npy" if len(module_name) == 1 else "npz")
    check_format(file_format, len(module_name))
    changes = overrides(resize, crop, no_crop)
    extractor = _extractor(
        shared_client(server), model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
        token_extraction=token_extraction,
    )  # fmt: skip
    dataset = _dataset(image_root, out_path, extractor.get_backend(), changes)
    with progress_bar() as progress:
        features = extractor.extract_features(
            DataLoader(dataset, batch_size, dataset.backend),
            module_names=module_name,
            flatten_acts=flatten_acts,
            progress=progress,
        )
    save_features(_single(features), out_path, file_format)


@app.command()
def compute_rdm(
    model_name: ModelName,
    source: Source,
    image_root: ImageRoot,
    module_name: ModuleName,
    out_path: OutPath,
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    batch_size: BatchSize = 32,
    token_extraction: TokenExtraction = None,
    resize: Resize = None,
    crop: Crop = None,
    no_crop: NoCrop = False,
    method: Annotated[
        str, typer.Option(help="correlation, cosine, euclidean or gaussian.")
    ] = "correlation",
    plot: Annotated[bool, typer.Option("--plot", help="Draw each RDM as a .png too.")] = False,
    server: Server = None,
) -> None:
    """Compare a folder of images by a model, and write rdm.npy (N x N) to --out-path.

    With several modules the files are rdm_MODULE.npy. Features stay on the server.
    """
    from .bar import progress_bar
    from .images import queue_files

    client = shared_client(server)
    changes = overrides(resize, crop, no_crop)
    extractor = _extractor(
        client, model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
        token_extraction=token_extraction,
    )  # fmt: skip
    dataset = _dataset(image_root, out_path, extractor.get_backend(), changes)
    with progress_bar() as progress:
        result = client.rdm(
            extractor.model,
            queue_files(dataset.root, dataset.names),
            module_name,
            metric=method,
            batch_size=batch_size,
            token_extraction=extractor.token_extraction,
            preprocessing=changes,
            progress=progress,
        )
    _save_rdms(result.rdms, out_path, plot)


@app.command()
def extract_texts(
    model_name: ModelName,
    source: Source,
    out_path: OutPath,
    texts: Annotated[list[str] | None, typer.Argument(help="The texts.")] = None,
    texts_file: Annotated[
        Path | None, typer.Option(help="File of texts (UTF-8), one per line, in their place.")
    ] = None,
    module_name: Annotated[
        str | None, typer.Option(help="Module that sees texts; without it the whole text tower.")
    ] = None,
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    batch_size: BatchSize = 32,
    server: Server = None,
) -> None:
    """Extract features of texts, and write features.npy and texts.txt to --out-path."""
    from .utils.data import write_lines
    from .utils.storing import save_features

    if (texts_file is None) == (not texts):
        raise InvalidRequestError("Give texts as arguments, or a file of them with --texts-file.")
    wanted = texts or [] if texts_file is None else _lines(texts_file)
    extractor = _extractor(
        shared_client(server), model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
    )  # fmt: skip
    features = extractor.extract_text_features(wanted, module_name, batch_size=batch_size)
    write_lines(out_path / "texts.txt", wanted)
    save_features(features, out_path, "npy")


@app.command()
def status(server: Server = None) -> None:
    """Show the server's devices, and which models are in memory."""
    from .tables import print_residency

    client = shared_client(server)
    print_residency(client.server, client.residency())


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(help="Weights, or a whole model (.pt2, .onnx, .keras).")],
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="JSON: how images become inputs of a whole model, such as "
            "'{\"resize_pixels\": [256], \"crop_pixels\": [224]}'; mean, std, interpolation, "
            "value_range (0..1, 0..255 or -1..1) and channel_order (RGB or BGR) may follow.",
            metavar="JSON",
        ),
    ] = None,
    server: Server = None,
) -> None:
    """Send a file to the server, and print how its model or its weights are named."""
    client = shared_client(server)
    declared = _json_object("--preprocessing", preprocessing) if preprocessing else None
    if declared is not None:
        typer.echo(client.upload_model(file, declared))
        return
    sha256 = client.upload_weights(file)
    sent = next(one for one in client.uploads() if one.sha256 == sha256)
    typer.echo(f"own/{sha256}" if sent.is_model else f"sha256:{sha256}")


@app.command()
def uploads(server: Server = None) -> None:
    """List the files that were uploaded to the server."""
    from .tables import print_uploads

    client = shared_client(server)
    print_uploads(client.server, client.uploads())


@app.command()
def delete_upload(
    sha256: Annotated[str, typer.Argument(help="SHA-256 of the file, as `uploads` prints it.")],
    server: Server = None,
) -> None:
    """Delete an uploaded file that no model in memory was made of."""
    typer.echo(f"{shared_client(server).delete_upload(sha256):,} bytes are free again.")


def _extractor(client: Client, model_name: str, source: str, **options: Any) -> Any:
    from .extractor import get_extractor

    parameters = _parameters(options.pop("model_parameters"))
    if (tokens := options.pop("token_extraction", None)) is not None:
        parameters["token_extraction"] = tokens
    return get_extractor(
        model_name, source=source, model_parameters=parameters, server=client.server, **options
    )


def _parameters(text: str | None) -> dict[str, Any]:
    return _json_object("--model-parameters", text or "{}")


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"{option} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRequestError(f"{option} is a JSON object, such as '{{\"seed\": 1}}'.")
    return found


def _dataset(root: Path, out_path: Path, backend: str, changes: Any) -> Any:
    from .utils.data import ImageDataset, ServerTransforms

    return ImageDataset(root, out_path, backend, transforms=ServerTransforms(changes))


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.removesuffix("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can't read texts from {path}: {error}") from error


def _single(arrays: dict[str, Any]) -> Any:
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _save_rdms(rdms: dict[str, Any], folder: Path, plot: bool) -> None:
    import numpy as np

    from .core.rsa import draw_rdm
    from .utils.storing import file_stem, replacing

    for module, rdm in rdms.items():
        name = "rdm" if len(rdms) == 1 else f"rdm_{file_stem(module)}"
        with replacing(folder / f"{name}.npy") as file:
            np.save(file, rdm, allow_pickle=False)
        if plot:
            draw_rdm(folder / f"{name}.png", rdm)


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"Warning: {message}", err=True)


def main() -> None:
    """Run the command line; what goes wrong is one sentence on stderr and exit status 1."""
    warnings.showwarning = _print_warning
    try:
        app()
    except ThingsvisionError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)
