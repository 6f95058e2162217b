"""RSA of a model's modules, and figures of RDMs, from files into files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import typer

from ..errors import InvalidRequestError
from .completion import complete_values
from .groups import ImageOptions, ModelOptions, PassOptions, takes_groups
from .opening import dataset_of, open_extractor, read_lines, say_written, write_names
from .options import Metric, ModuleName, OnErrorStops, OutPath, Overwrite

_PREFIX = "rdm_"


Reference = Annotated[
    list[str],
    typer.Option(
        help="File of a reference RDM (images x images) or of RDMs of subjects (subjects x "
        "images x images), rows in the order of file_names.txt. May be given several times.",
        metavar="[NAME=]FILE",
    ),
]
ReferenceNames = Annotated[
    Path | None, typer.Option(help="File of the names of the references' rows, one per line.")
]
Correlation = Annotated[
    str,
    typer.Option(
        help="How RDMs are compared: spearman, pearson, or with rsatoolbox kendall, tau-a, "
        "rho-a, cosine, corr_cov or cosine_cov.",
        autocompletion=complete_values(
            *("spearman", "pearson", "kendall", "tau-a"),
            *("rho-a", "cosine", "corr_cov", "cosine_cov"),
        ),
    ),
]
Bootstrap = Annotated[
    int,
    typer.Option(
        min=0, help="Bootstrap samples for the intervals, by rsatoolbox; 0 for no intervals."
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same intervals.")]
NoiseCeiling = Annotated[
    bool,
    typer.Option(help="Compute what a perfect model could score, for RDMs of several subjects."),
]
FigureFormat = Annotated[
    str,
    typer.Option(
        help="Format of the figure: png, svg or pdf.",
        autocompletion=complete_values("png", "svg", "pdf"),
    ),
]


@dataclass(frozen=True)
class ComparisonOptions:
    """How the RDMs of a model are compared with the references."""

    correlation: Correlation = "spearman"
    bootstrap: Bootstrap = 1000
    seed: Seed = 0
    noise_ceiling: NoiseCeiling = True


@takes_groups
def rsa(
    model: ModelOptions,
    images: ImageOptions,
    module_name: ModuleName,
    reference: Reference,
    out_path: OutPath,
    forward: PassOptions,
    comparison: ComparisonOptions,
    method: Metric = "correlation",
    reference_names: ReferenceNames = None,
    figure: FigureFormat = "png",
    overwrite: Overwrite = False,
    on_error: OnErrorStops = "raise",
) -> None:
    """Compare the RDM of each module with reference RDMs of brains or behaviour.

    Prints a table, and writes rsa.csv, rsa.json (with provenance) and a bar plot to --out-path.
    References are not sent to the server.
    """
    from ..analysis import rsa as compare
    from ..analysis.result_files import check_before
    from ..display.progress import progress_bar
    from ..figures.canvas import check_figure
    from ..jobs import read_skipped

    check_figure(out_path / f"rsa.{figure}")
    references = _rdms_by_name(reference)
    names = None if reference_names is None else read_lines(reference_names)
    extractor = open_extractor(model, forward.token_extraction)
    dataset = dataset_of(images, out_path, extractor.get_backend(), overwrite=overwrite)
    check_before(out_path, extractor.model, method, overwrite=overwrite)
    with progress_bar() as progress:
        result = compare(
            dataset, references, extractor, module_name, metric=method, reference_images=names,
            batch_size=forward.batch_size, on_error=on_error, progress=progress, **vars(comparison),
        )  # fmt: skip
    typer.echo(str(result))
    result.save(out_path, figure, overwrite=overwrite)
    say_written(out_path / "rsa.csv")
    say_written(out_path / f"rsa.{figure}")
    write_names(dataset, out_path, read_skipped(result.origin))


@dataclass(frozen=True)
class GridOptions:
    """How the RDMs of a figure look."""

    scale: Annotated[
        str,
        typer.Option(
            help="Scale of the colours: shared by all RDMs, own, or ranks (percentiles).",
            autocompletion=complete_values("shared", "own", "ranks"),
        ),
    ] = "shared"
    units: Annotated[str | None, typer.Option(help="Label of the colour bar.")] = None
    columns: Annotated[int | None, typer.Option(min=1, help="RDMs in a row.")] = None
    colormap: Annotated[str, typer.Option(help="Name of a colormap of matplotlib.")] = "cividis"


RDMFiles = Annotated[
    list[str],
    typer.Argument(help="Files of RDMs, such as those of compute-rdm.", metavar="[NAME=]FILE..."),
]
FigurePath = Annotated[
    Path, typer.Option(help="The figure; its ending (.png, .svg, .pdf) chooses the format.")
]
Thumbnails = Annotated[
    Path | None, typer.Option(help="Folder of the images, for pictures on the axes.")
]
RowNames = Annotated[
    Path | None,
    typer.Option(
        help="File of the names of the rows, one per line, such as file_names.txt; their "
        "folders are the categories."
    ),
]
Categories = Annotated[
    Path | None, typer.Option(help="File of the category of each row, one per line.")
]


@takes_groups
def plot_rdms(
    rdm: RDMFiles,
    out: FigurePath,
    grid: GridOptions,
    image_root: Thumbnails = None,
    names: RowNames = None,
    categories: Categories = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw RDMs side by side, with lines between categories and pictures of images on the axes."""
    from ..figures.categories import FOLDERS
    from ..figures.rdm_grid import plot_rdms as plot
    from ..images.folder import image_names

    rdms = _rdms_by_name(rdm)
    rows = None if names is None else read_lines(names)
    if rows is None and image_root is not None and not any(map(_has_names, rdms.values())):
        rows = image_names(image_root)
    plot(
        out,
        rdms,
        images=rows,
        thumbnails=image_root,
        categories=FOLDERS if categories is None else read_lines(categories),
        overwrite=overwrite,
        sources=_sources(rdm),
        **vars(grid),
    )
    say_written(out)


def _has_names(rdm: Any) -> bool:
    """Tell whether an RDM of a file carries names of its rows."""
    return any(not one.are_counted for axis in getattr(rdm, "axes", ()) for one in axis)


def _sources(given: list[str]) -> dict[str, Any]:
    """Return what the metadata beside files of RDMs say, by the name given for the file."""
    from ..origins.document import file_sha256
    from ..origins.replacing import metadata_of

    found = {}
    for one in given:
        title, name = _split(one)
        known = metadata_of(Path(name)) or {}
        facts = {key: value for key, value in known.items() if key != "images"}
        digest = file_sha256(Path(name))
        found[title or name] = {**facts, "file_sha256": digest} if facts else {"sha256": digest}
    return found


def _rdms_by_name(given: list[str]) -> dict[str, Any]:
    """Return RDMs by the name given for their file, else that of the file or in the file."""
    from ..analysis.rdm_files import read_rdms

    found: dict[str, Any] = {}
    for one in given:
        title, path = _split(one)
        arrays = read_rdms(Path(path))
        for name, array in arrays.items():
            label = _label(title, name, is_alone=len(arrays) == 1)
            if label in found:
                raise InvalidRequestError(f"Two RDMs are called {label!r}: pass NAME=FILE.")
            found[label] = array
    return found


def _label(title: str, name: str, *, is_alone: bool) -> str:
    if title:
        return title if is_alone else f"{title} {name}"
    # compute-rdm names files after modules.
    return unquote(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else name


def _split(given: str) -> tuple[str, str]:
    """Return name and path of `NAME=FILE`; an existing file may have `=` in its own name."""
    name, sign, path = given.partition("=")
    return (name, path) if sign and not Path(given).exists() else ("", given)
