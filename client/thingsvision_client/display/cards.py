"""Shows objects: a short line, a table for notebooks, and lists as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, TypeVar

from ..errors import MissingDependencyError

T = TypeVar("T")

_MOST_ROWS = 30
"""Rows of a table in a notebook."""

_MOST_LETTERS = 90
"""Letters of a value in a line."""


class Shown:
    """An object that shows itself in a line and in notebooks, by its facts."""

    def _facts(self) -> Mapping[str, Any]:
        """Return what is worth showing, by name, the most important first; None is left out."""
        raise NotImplementedError

    def __repr__(self) -> str:
        shown = (f"{name}: {_short(value)}" for name, value in _known(self._facts()))
        return f"<{type(self).__name__} {'; '.join(shown)}>"

    def _repr_html_(self) -> str:
        rows = ((name, _text(value)) for name, value in _known(self._facts()))
        return f"<b>{escape(type(self).__name__)}</b>{_html_table(rows)}"


class Table(list[T]):
    """A list of records, which is also a table: in notebooks, and of pandas.

    Example:
        ```python
        from thingsvision_client import Client

        modules = Client().modules("torchvision/alexnet")
        print(modules[0].name, modules.to_dataframe()["output_shape"])
        ```

    """

    def __init__(self, records: Iterable[T], columns: Sequence[str]) -> None:
        super().__init__(records)
        self.columns = tuple(columns)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Table, (list(self), self.columns))

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame with a row per record.

        Returns:
            The table; shapes are tuples.

        Raises:
            MissingDependencyError: pandas is not installed.

        Example:
            ```python
            from thingsvision_client import Client

            table = Client().models("torchvision", "resnet*").to_dataframe()
            print(table.sort_values("parameter_count"))
            ```

        """
        pandas = import_pandas("A DataFrame")
        rows = [{name: getattr(one, name) for name in self.columns} for one in self]
        return pandas.DataFrame(rows, columns=list(self.columns))

    def __repr__(self) -> str:
        lines = [f"[{len(self)} records", *(f" {one!r}" for one in self[:_MOST_ROWS])]
        more = len(self) - _MOST_ROWS
        return "\n".join([*lines, f" ... and {more} more]"]) if more > 0 else "\n".join(lines) + "]"

    def _repr_html_(self) -> str:
        rows = [[_text(getattr(one, name)) for name in self.columns] for one in self[:_MOST_ROWS]]
        more = len(self) - _MOST_ROWS
        return _html_table(rows, self.columns) + (f"<p>... and {more} more</p>" if more > 0 else "")


def import_pandas(purpose: str) -> Any:
    """Return pandas. Raises MissingDependencyError that says what needs it."""
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs pandas: pip install 'thingsvision-service[pandas]'"
        ) from error
    return pandas


def shape_text(shape: Iterable[int], dtype: Any = "") -> str:
    """Return a shape as text, such as `8 x 256 x 13 x 13 float32`."""
    return f"{' x '.join(map(str, shape)) or 'a single value'} {dtype}".rstrip()


def array_texts(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Return the shapes of arrays, by name."""
    return {name: shape_text(one.shape, one.dtype) for name, one in arrays.items()}


def _known(facts: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name, value in facts.items() if value not in (None, "", (), {}))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        is_shape = bool(value) and all(type(one) is int for one in value)
        return shape_text(value) if is_shape else ", ".join(map(_text, value))
    return f"{value:,}" if type(value) is int else str(value)


def _short(value: Any) -> str:
    text = " ".join(_text(value).split())
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."


def _html_table(rows: Iterable[Sequence[str]], columns: Sequence[str] = ()) -> str:
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table>{head and f'<thead><tr>{head}</tr></thead>'}<tbody>{body}</tbody></table>"
