"""Puts every option of the command line and of the server on pages, from the programs themselves.

A page asks for a table by a line such as `<!-- commands -->`: a key of TABLES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

PROGRAM = "thingsvision-client"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tables in the place of the lines that ask for them; MkDocs calls this for each page."""
    for mark, table in TABLES.items():
        if mark in markdown:
            markdown = markdown.replace(mark, "\n".join(table()))
    return markdown


def commands() -> Iterator[str]:
    """Yield a section per command: what it does, how it is called, and its options."""
    import typer

    from thingsvision_client.cli import app

    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name=PROGRAM)
    for name, command in group.commands.items():
        yield from _command(name, command, typer.Context(command, info_name=name, parent=context))


def _command(name: str, command: Any, context: Any) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (f"## {name}", "", command.help, "", "```text")
    yield from (f"{PROGRAM} {name} {usage}", "```", "")
    yield from ("| option | what for | default |", "|---|---|---|")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            text, _, rest = record[1].partition("  [")
            yield f"| {_code(record[0])} | {_cell(text)} | {_cell(rest.removesuffix(']'))} |"
    yield ""


def server_options() -> Iterator[str]:
    """Yield a table of the server's options: how they are called, their meaning, their default."""
    from thingsvision_server.settings import Settings

    yield from ("| option | in the environment | what for | default |", "|---|---|---|---|")
    for name, field in Settings.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            option += f", --no-{option[2:]}"
        default = _DEFAULTS.get(name, field.default)
        yield (
            f"| {_code(option)} | `THINGSVISION_{name.upper()}` | {_cell(field.description or '')} "
            f"| {_cell(_default(default))} |"
        )


_DEFAULTS = {
    "host_memory": "a quarter of the RAM with a GPU, else 0",
    "tensorflow_python": "the server's own interpreter",
    "cpu_lanes": "number of cores, at most 4",
    "decode_memory": "an eighth of the RAM",
    "staging_memory": "a sixteenth of the RAM, at most 4 GiB",
    "decode_threads": "number of cores",
    "rdm_features_memory": "an eighth of the RAM, at most 1 GiB",
}
"""Defaults that depend on the machine, where the page must not show the builder's values."""


def _default(value: Any) -> str:
    if hasattr(value, "human_readable"):
        return f"{value.human_readable()}" if value else "0"
    return "none" if value is None else str(value)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _cell(text: str) -> str:
    """Return text for a cell: one line, without what would be read as Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def model_parameters() -> Iterator[str]:
    """Yield a table of the keys of `model_parameters`."""
    from thingsvision_client.library.parameters import PARAMETERS

    yield from ("| key | what it is |", "|---|---|")
    for key, meaning in PARAMETERS.items():
        yield f"| {_code(key)} | {_cell(meaning)} |"


def extract_options() -> Iterator[str]:
    """Yield a table of the options of `Client.extract`."""
    from thingsvision_client.values.options import OPTIONS

    yield from ("| option | what for | default |", "|---|---|---|")
    for option in OPTIONS.values():
        default = _code(repr(option.default))
        yield f"| {_code(option.name)} | {_cell(option.help)} | {default} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "<!-- commands -->": commands,
    "<!-- options -->": extract_options,
    "<!-- server options -->": server_options,
    "<!-- model parameters -->": model_parameters,
}
