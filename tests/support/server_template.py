"""Imports what every server imports, in the process that servers of tests are forked from."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from thingsvision_server.allocator import keep_freed_memory
from thingsvision_server.threads import keep_threads_over_forks

# As a server does it: before libraries that start threads.
keep_freed_memory()
keep_threads_over_forks(os.environ)

from .serving import open_sources  # noqa: E402

open_sources(Path(os.devnull)).open_all()
gc.collect()
gc.freeze()
