"""The options that switch off what the server does otherwise than the libraries do."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field


class ShortcutOptions(BaseModel):
    """Switches of what the server does otherwise than the libraries do."""

    fast_max_pool: Annotated[
        bool,
        Field(description="compute max pools on a CPU row by row; off: with PyTorch, same values"),
    ] = True
    untried_options: Annotated[
        bool,
        Field(
            description="offer options of a pass (precision, memory_format, compiled) on a GPU "
            "where no check of this version ran them; off: refuse them"
        ),
    ] = False
    skip_initialisation: Annotated[
        bool,
        Field(
            description="build networks without the initial values that a file replaces; off: "
            "draw them, then copy the file's values; same bits"
        ),
    ] = True
    keep_freed_memory: Annotated[
        bool,
        Field(
            description="on Linux, keep memory that a layer frees for the next layer; off: the C "
            "library's defaults"
        ),
    ] = True
    rdm_thread_pool: Annotated[
        bool,
        Field(
            description="compute RDMs and PCAs on a CPU with one independent thread for each core; "
            "off: with the threads of BLAS; last bits may differ"
        ),
    ] = True
    fast_frames: Annotated[
        bool,
        Field(description="write frames of features without copies; off: protobuf writes them"),
    ] = True
    throttle_imports: Annotated[
        bool,
        Field(
            description="delay the imports of a starting server, by at most 1 s, while a list of "
            "models is sent"
        ),
    ] = True
