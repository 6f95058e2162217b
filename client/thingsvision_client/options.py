"""Options that commands share: their types and their help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .channel import SERVER_VARIABLE

Server = Annotated[
    str | None,
    typer.Option(envvar=SERVER_VARIABLE, help="Address of the server, host:port.", metavar="ADDR"),
]
ModelName = Annotated[str, typer.Option(help="Name of the model in its source, e.g. resnet50.")]
Source = Annotated[str, typer.Option(help="Where the model comes from, e.g. torchvision or timm.")]
DeviceName = Annotated[
    str | None,
    typer.Option(help="Device of the server that you expect; another one gives a warning."),
]
Pretrained = Annotated[
    bool, typer.Option(help="Pretrained weights, or random ones (the same for the same seed).")
]
ModelPath = Annotated[
    Path | None, typer.Option(help="File of your own weights (a state dict), to be uploaded.")
]
ModelParameters = Annotated[
    str | None,
    typer.Option(
        help="JSON: '{\"weights\": TAG}' picks pretrained weights, '{\"seed\": N}' random ones.",
        metavar="JSON",
    ),
]
ImageRoot = Annotated[
    Path, typer.Option(help="Folder of images, or of folders of images (classes).")
]
ModuleName = Annotated[
    list[str], typer.Option(help="Module, as show-model prints it. May be given several times.")
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Images in a forward pass; the same gives the same bits.")
]
OutPath = Annotated[
    Path, typer.Option(help="Folder for results; file_names.txt there has a line per row.")
]
