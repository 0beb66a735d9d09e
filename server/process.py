"""A process that serves until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable

from asr import heap
from asr.errors import AsrError
from asr.recognizer import Recognizer

from .app import App
from .entrance import Entrance
from .options import ServerOptions

_SWITCH_S = 0.001
_KEPT_BYTES = 64 << 20


def run_server(
    recognizer: Recognizer, options: ServerOptions, started: Callable[[int], None], entrance: Entrance | None = None
) -> None:
    """Serve until SIGINT or SIGTERM. Of several processes each has an entrance."""
    if "torch" in sys.modules:  # which runs the network in float32: one thread computes here
        sys.modules["torch"].set_num_threads(1)
    # The engine's thread computes; the event loop must not wait long for its turn.
    sys.setswitchinterval(_SWITCH_S)
    # Given back, what a step frees would have to be cleared anew for the next, for a twentieth of the time.
    heap.keep_some(_KEPT_BYTES)
    # What is loaded by now stays: a full collection would look through all of it, for a tenth of a second.
    gc.collect()
    gc.freeze()

    async def main() -> None:
        app = App(recognizer, options, entrance)
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(name, app.stop)
            except NotImplementedError:  # Windows
                signal.signal(name, lambda *_: loop.call_soon_threadsafe(app.stop))
        await app.run(started)

    try:
        asyncio.run(main())
    except OSError as error:
        raise AsrError(f"the server failed: {error}") from error
