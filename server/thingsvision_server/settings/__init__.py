"""The server's options: from the command line, the environment, a file, or their defaults."""

from __future__ import annotations

from .options import Settings
from .reading import read_settings

__all__ = ["Settings", "read_settings"]
