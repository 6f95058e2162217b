"""Runs the blocks of a page in order, Python in one namespace; a process of its own for a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from markdown_blocks import blocks


def main(page: Path) -> None:
    """Run a page in the working directory; what fails ends the process with its traceback."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            # Tracebacks then have the lines of the page.
            source = "\n" * block.line + block.code
            exec(compile(source, str(page), "exec"), namespace)
        elif block.language == "sh":
            command = ["bash", "-euo", "pipefail", "-c", block.code]
            done = subprocess.run(command, check=False)
            if done.returncode:
                sys.exit(f"{block}: the command failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
