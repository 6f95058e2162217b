"""The server's engine in this process: images to features without gRPC.

It is wired by the server's own `thingsvision_server.wiring`; its socket is not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from thingsvision_client.values.model import as_model
from thingsvision_server.engine.extractor import Extractor
from thingsvision_server.rpc.messages.models import model_key
from thingsvision_server.settings import Settings
from thingsvision_server.sources.base import ModelKey
from thingsvision_server.wiring import start_server


class Engine:
    """An event loop with one engine, for code that isn't asynchronous."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._extractor: Extractor | None = None

    def open(self, weights_dir: str, device: str) -> Extractor:
        """Return the extractor, opened on first use."""
        if self._extractor is None:
            opening = self._stack.enter_async_context(_extractor(Path(weights_dir), device))
            self._extractor = self.run(opening)
        return self._extractor

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine to completion in the engine's loop."""
        return self._runner.run(coroutine)

    def close(self) -> None:
        """Close engine and loop."""
        self.run(self._stack.aclose())
        self._runner.close()


def engine_key(model: str) -> ModelKey:
    """Return the engine's key of a model."""
    return model_key(as_model(model).to_spec())


@asynccontextmanager
async def _extractor(weights_dir: Path, device: str) -> AsyncIterator[Extractor]:
    settings = Settings(
        weights_dir=weights_dir, device=device, port=0, metrics_port=0, allow_download=False
    )
    async with start_server(settings) as server:
        # Otherwise imports would continue in the background.
        await asyncio.to_thread(server.sources.open_all)
        yield server.extractor
