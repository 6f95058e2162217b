"""Reads the settings again while the server runs, and uses what can be changed."""

from __future__ import annotations

import sys

import structlog

from ..settings import Settings
from ..settings.reading import parse_settings
from ..wiring import CHANGEABLE, RunningServer
from .log import log_to

_log = structlog.get_logger(__name__)


def reload(settings: Settings, server: RunningServer) -> None:
    """Read the settings again, change `settings` to what may change now, and log the rest.

    The file is what can have changed since the start: a process keeps its command line and its
    environment. A mistake changes nothing.
    """
    try:
        found = parse_settings(sys.argv[1:])
    except ValueError as error:
        _log.error("the settings were not read again", reason=str(error))
        return
    names = list(Settings.model_fields)
    different = [name for name in names if getattr(found, name) != getattr(settings, name)]
    changed = [name for name in different if name in CHANGEABLE]
    for name in changed:
        setattr(settings, name, getattr(found, name))
    server.change(settings)
    log_to(sys.stderr, settings)
    waiting = [name for name in different if name not in CHANGEABLE]
    _log.info("the settings were read again", changed=changed)
    if waiting:
        _log.warning("a restart is needed to change these options", options=waiting)
