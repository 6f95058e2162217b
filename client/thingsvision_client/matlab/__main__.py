"""Runs the helper: `python -m thingsvision_client.matlab FOLDER --parent PID`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .helper import Helper


def main() -> None:
    """Answer the requests in a folder until MATLAB has ended."""
    parser = argparse.ArgumentParser(prog="python -m thingsvision_client.matlab")
    parser.add_argument("folder", type=Path, help="private folder that MATLAB made")
    parser.add_argument("--parent", type=int, default=0, help="process whose end ends this one")
    arguments = parser.parse_args()
    Helper(arguments.folder, arguments.parent).run()


if __name__ == "__main__":
    main()
