"""The command `thingsvision-server endpoints`: keeps a gateway's list of servers current."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ..errors import PreconditionError
from .endpoints import EndpointList, TargetFile, envoy_endpoints, prometheus_targets
from .folder import folder_doubts, folder_fault
from .watch import AnnouncementWatch

_LOOK_SECONDS = 1.0

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_log = structlog.get_logger(__name__)


_Folder = Annotated[
    Path, typer.Option(metavar="DIR", help="The folder in which servers announce themselves.")
]
_EnvoyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Envoy's file of endpoints (EDS), in a folder of its own that Envoy watches.",
    ),
]
_PrometheusFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prometheus's file of targets (file_sd_configs), .json."),
]


@app.command()
def keep_endpoints(
    announce_dir: _Folder,
    write: _EnvoyFile = None,
    prometheus: _PrometheusFile = None,
    cluster_name: Annotated[
        str, typer.Option(help="The name of the endpoints in Envoy's configuration.")
    ] = "thingsvision",
    once: Annotated[bool, typer.Option("--once", help="Write the files once, and end.")] = False,
) -> None:
    """Keep files current that tell gateways and Prometheus which servers there are.

    It reads the announcements each second. A server that ended, or whose file did not change for
    30 s, is left out; of servers that drain Envoy is told so.
    """
    folder = announce_dir.expanduser()
    _check(folder)
    describe_to_envoy = partial(envoy_endpoints, cluster_name=cluster_name)
    files = [
        TargetFile(path.expanduser().absolute(), describe)
        for path, describe in ((write, describe_to_envoy), (prometheus, prometheus_targets))
        if path is not None
    ]
    if not files:
        raise PreconditionError("--write or --prometheus must name a file to write")
    _log_to_stderr()
    servers = EndpointList(AnnouncementWatch(folder), files)
    if once:
        servers.refresh()
    else:
        _refresh_forever(servers)


def _refresh_forever(servers: EndpointList) -> None:
    failure = ""
    while True:
        try:
            servers.refresh()
        except OSError as error:
            if str(error) != failure:
                _log.warning("the list can't be made; it stays as it was", reason=str(error))
            failure = str(error)
        else:
            failure = ""
        time.sleep(_LOOK_SECONDS)


def _check(folder: Path) -> None:
    """Raise PreconditionError if announcements in a folder can't be believed or read."""
    try:
        fault = folder_fault(folder)
        doubts = [*folder_doubts(folder)]
    except OSError as error:
        raise PreconditionError(
            f"--announce-dir must be a folder, got {str(folder)!r}: {error.strerror}"
        ) from error
    if not folder.is_dir():
        raise PreconditionError(f"--announce-dir must be a folder, got {str(folder)!r}")
    if fault:
        raise PreconditionError(f"--announce-dir can't be used: {fault}")
    for doubt in doubts:
        print(
            f"thingsvision-server endpoints: {doubt}: whoever writes there receives users' "
            "requests, unless the gateway checks the servers' certificates",
            file=sys.stderr,
        )


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main(arguments: list[str]) -> None:
    """Run the command; an error is one sentence on stderr."""
    try:
        app(args=arguments, prog_name="thingsvision-server endpoints")
    except (OSError, PreconditionError) as error:
        sys.exit(f"thingsvision-server: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
