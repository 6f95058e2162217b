"""What an RSA found: a score for every module and reference, as table, text and figure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError, MissingDependencyError
from ..files import replacing
from .score import Score

if TYPE_CHECKING:
    from ..rpc.rdms import RDMs
    from .statistics import Bootstrap

_PACKAGES = {"client_version": "thingsvision-service", "rsatoolbox_version": "rsatoolbox"}


_COLUMNS = tuple(one.name for one in fields(Score) if one.name != "by_subject")


@dataclass(frozen=True)
class RSAResult:
    """Scores of all modules with all references, in the order asked for, and how they came about.

    `correlation` is how RDMs were compared, a key of statistics.COMPARISONS; `rdms` are those of
    the modules. `references` tells of each reference its number of subjects and the SHA-256 of its
    values; `origin` what computed the features, as JSON knows it.
    """

    scores: tuple[Score, ...]
    rdms: RDMs
    correlation: str
    bootstrap: Bootstrap | None
    references: Mapping[str, Mapping[str, Any]]
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modules(self) -> list[str]:
        """The names of the modules, in the order asked for."""
        return list(self.rdms.rdms)

    def of(self, reference: str, module: str) -> Score:
        """Return one score. Raises InvalidRequestError for a name that is not there."""
        for score in self.scores:
            if (score.reference, score.module) == (reference, module):
                return score
        raise InvalidRequestError(
            f"There is no score of module {module!r} with reference {reference!r}; there are "
            f"modules {', '.join(self.modules)} and references {', '.join(self.references)}."
        )

    def to_records(self) -> list[dict[str, Any]]:
        """Return a row per score: the fields of Score but those by subject."""
        return [{name: getattr(score, name) for name in _COLUMNS} for score in self.scores]

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas DataFrame. Raises MissingDependencyError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError(
                "A DataFrame needs pandas: pip install 'thingsvision-service[pandas]'"
            ) from error
        return pandas.DataFrame(self.to_records(), columns=list(_COLUMNS))

    def to_csv(self) -> str:
        """Return the rows as text with a head, separated by commas; digits bring back values."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_records())
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Return scores and all that they depend on, as JSON knows it; NaN is None there."""
        return {
            "metric": self.rdms.metric,
            "correlation": self.correlation,
            "bootstrap": asdict(self.bootstrap) if self.bootstrap else None,
            "references": {name: dict(facts) for name, facts in self.references.items()},
            "scores": [_without_nan(asdict(score)) for score in self.scores],
            **{name: _version(package) for name, package in _PACKAGES.items()},
            "images": list(self.rdms.images),
            **self.origin,
        }

    def to_json(self) -> str:
        """Return the same as text, for the supplement of a paper."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def plot(self, path: str | Path, **options: Any) -> None:
        """Draw the scores of the modules as bars into a file, `.png`, `.svg` or `.pdf`.

        There is a panel per reference; lines on the bars are the bootstrap's intervals, a grey
        band is the noise ceiling. `options` are those of `bars.plot_scores`. Raises
        MissingDependencyError without matplotlib, InvalidRequestError for another ending.
        """
        from .bars import plot_scores

        plot_scores(path, self.scores, self.correlation, **options)

    def save(self, folder: str | Path, figure: str = "png") -> None:
        """Write `rsa.csv`, `rsa.json` and the bars as `rsa.{figure}` to a folder."""
        for name, text in (("rsa.csv", self.to_csv()), ("rsa.json", self.to_json())):
            with replacing(Path(folder) / name) as file:
                file.write(text.encode())
        self.plot(Path(folder) / f"rsa.{figure}")

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


def _without_nan(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _without_nan(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and isnan(values) else values


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
