"""The result of an RSA: a score per module and reference, as table, text and figure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls.signatures import check_arguments
from ..display.cards import Shown, import_pandas
from ..errors import InvalidRequestError
from .score import Score, without_nan

if TYPE_CHECKING:
    from ..rpc.rdms import RDMs
    from .statistics import Bootstrap

_PACKAGES = {"client_version": "thingsvision-service", "rsatoolbox_version": "rsatoolbox"}


_COLUMNS = tuple(one.name for one in fields(Score) if one.name != "by_subject")


@check_arguments
@dataclass(frozen=True, repr=False)
class RSAResult(Shown):
    """Scores of all modules with all references, and what they depend on; `print` shows a table.

    Attributes:
        scores: A Score per reference and module, by reference, modules in the order asked for.
        rdms: The RDMs of the modules.
        correlation: How RDMs were compared.
        bootstrap: How intervals were computed; None without intervals.
        references: Number of subjects and SHA-256 of the values of each reference, and the names
            that its rows were matched by, if they were.
        origin: What computed the features, in values that JSON can hold.

    Example:
        ```python
        from thingsvision_client import Client, rsa

        brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
        result = rsa("photos", brain, "torchvision/alexnet", "features.10", bootstrap=0)
        print(result.modules, result.scores[0].score)
        result.save("results")
        ```

    """

    scores: tuple[Score, ...]
    rdms: RDMs
    correlation: str
    bootstrap: Bootstrap | None
    references: Mapping[str, Mapping[str, Any]]
    origin: Mapping[str, Any] = field(default_factory=dict)

    def _facts(self) -> dict[str, Any]:
        return {
            "correlation": self.correlation,
            "images": len(self.rdms.images),
            "scores": {
                f"{one.module} with {one.reference}": f"{one.score:.3f}" for one in self.scores
            },
        }

    @property
    def modules(self) -> list[str]:
        """The names of the modules, in the order asked for."""
        return list(self.rdms.rdms)

    def of(self, reference: str, module: str) -> Score:
        """Return the score of one module with one reference.

        Args:
            reference: Name of the reference; `reference` if it was given without a name.
            module: Name of the module.

        Returns:
            The score.

        Raises:
            InvalidRequestError: A name that is not in the result.

        Example:
            ```python
            from thingsvision_client import Client, rsa

            brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
            result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
            print(result.of("features.10", "features.3").score)
            ```

        """
        for score in self.scores:
            if (score.reference, score.module) == (reference, module):
                return score
        raise InvalidRequestError(
            f"There is no score of module {module!r} with reference {reference!r}; modules: "
            f"{', '.join(self.modules)}, references: {', '.join(self.references)}."
        )

    def to_records(self) -> list[dict[str, Any]]:
        """Return a dict per score: the fields of Score except `by_subject`.

        Returns:
            The rows of `to_dataframe` and `to_csv`.

        Example:
            ```python
            from thingsvision_client import Client, rsa

            brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
            result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
            for row in result.to_records():
                print(row["module"], row["score"])
            ```

        """
        return [{name: getattr(score, name) for name in _COLUMNS} for score in self.scores]

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame with a row per score.

        Returns:
            The fields of Score except `by_subject` as columns.

        Raises:
            MissingDependencyError: pandas is not installed.

        Example:
            ```python
            from thingsvision_client import Client, rsa

            brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
            result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
            print(result.to_dataframe())
            ```

        """
        pandas = import_pandas("A DataFrame")
        return pandas.DataFrame(self.to_records(), columns=list(_COLUMNS))

    def to_csv(self) -> str:
        """Return the rows as CSV text with a header; numbers have all their digits.

        Returns:
            The fields of Score except `by_subject` as columns.

        Example:
            ```python
            from thingsvision_client import Client, rsa

            brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
            result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
            print(result.to_csv())
            ```

        """
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_records())
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Return the scores and all that they depend on, in values that JSON can hold.

        Returns:
            Scores (with None for NaN), metric, correlation, bootstrap, references, versions,
            images and the provenance of the features.

        Example:
            ```python
            from thingsvision_client import Client, rsa

            brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
            result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
            print(result.to_dict()["scores"])
            ```

        """
        return {
            "metric": self.rdms.metric,
            "correlation": self.correlation,
            "bootstrap": asdict(self.bootstrap) if self.bootstrap else None,
            "references": {name: dict(facts) for name, facts in self.references.items()},
            "scores": [without_nan(asdict(score)) for score in self.scores],
            **{name: _version(package) for name, package in _PACKAGES.items()},
            "images": list(self.rdms.images),
            **self.origin,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text, for the supplement of a paper.

        Returns:
            JSON, indented.

        Example:
            ```python
            from thingsvision_client import Client, rsa

            brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
            result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
            print(result.to_json())
            ```

        """
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def plot(self, path: str | Path, **options: Any) -> None:
        """Draw the scores as bars into a file, with a panel per reference.

        Lines on the bars are bootstrap intervals, and a grey band is the noise ceiling. The JSON
        file beside the figure has all that `to_dict` returns.

        Args:
            path: The file; its ending (`.png`, `.svg`, `.pdf`) chooses the format.
            **options: `width_inches`, `color` and `overwrite`, as in `plot_scores`.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            InvalidRequestError: An unknown format, or a figure of something else at the path.

        Example:
            ```python
            from thingsvision_client import Client, rsa

            brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
            result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
            result.plot("results/scores.svg")
            ```

        """
        from .bars import plot_scores

        facts = {name: value for name, value in self.to_dict().items() if name != "scores"}
        plot_scores(path, self.scores, self.correlation, facts=facts, **options)

    def save(self, folder: str | Path, figure: str = "png", *, overwrite: bool = False) -> None:
        """Write the scores to a folder: `rsa.csv`, `rsa.json` and a bar plot `rsa.{figure}`.

        Args:
            folder: The folder, created if missing.
            figure: Format of the bar plot: `png`, `svg` or `pdf`.
            overwrite: Replace files of another RSA; otherwise they are an error.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            InvalidRequestError: An unknown format, or files of another RSA in the folder.

        Example:
            ```python
            from thingsvision_client import Client, rsa

            brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
            result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
            result.save("results", figure="svg", overwrite=True)
            ```

        """
        from .result_files import write_result

        write_result(self, Path(folder), figure, overwrite=overwrite)

    def __str__(self) -> str:
        rows = [_HEAD, *map(_cells, self.scores)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


_HEAD = ("reference", "module", "score", "interval", "noise ceiling")


def _cells(score: Score) -> tuple[str, ...]:
    interval = _range(score.low, score.high)
    ceiling = _range(score.ceiling_low, score.ceiling_high)
    return (score.reference, score.module, f"{score.score:.4f}", interval, ceiling)


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
