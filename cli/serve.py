"""``asr serve``: a WebSocket server."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "serve",
        help="serve live transcription over WebSockets",
        description="Serve live transcription over WebSockets: the Vosk protocol at / and /vosk, and asr's own at "
        "/v1/stream. /healthz, /readyz and /metrics answer plain HTTP.",
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", type=int, default=2700, help="default: 2700; 0 chooses a free one")
    command.add_argument("--model", metavar="DIR", help="model folder (default: english, the one that comes with asr)")
    command.add_argument("--token", help="clients must present it (default: the variable ASR_TOKEN, if it is set)")
    command.add_argument("--insecure", action="store_true", help="listen on a public address without a token")
    command.add_argument("--cert", type=Path, metavar="PEM", help="certificate: serve TLS")
    command.add_argument("--key", type=Path, metavar="PEM", help="its private key")
    command.add_argument("--origin", action="append", default=[], help="of web pages that may connect (default: any)")
    command.add_argument("--max-connections", type=int, default=500, metavar="N", help="default: 500")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    import asr
    from asr.errors import ConfigError

    try:
        from asr.server.app import run_server
        from asr.server.options import ServerOptions
    except ModuleNotFoundError as error:
        raise ConfigError(f"the server needs {error.name}: pip install 'asr-stream[server]'") from error
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    settings = ServerOptions(
        host=options.host,
        port=options.port,
        token=options.token or os.environ.get("ASR_TOKEN"),
        insecure=options.insecure,
        cert=options.cert,
        key=options.key,
        origins=tuple(options.origin),
        max_connections=options.max_connections,
    )
    recognizer = asr.load(options.model)
    recognizer.warm_up()
    scheme = "wss" if settings.cert else "ws"

    def started(port: int) -> None:
        print(f"listening on {scheme}://{settings.host}:{port}", file=sys.stderr, flush=True)

    run_server(recognizer, settings, started)
    return 0
