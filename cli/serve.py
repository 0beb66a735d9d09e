"""``asr serve``: a WebSocket server."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.recognition import add_beam_argument, add_model_arguments

if TYPE_CHECKING:
    from asr.server.entrance import Entrance
    from asr.server.logs import LogFormat
    from asr.server.options import ServerOptions


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "serve",
        help="serve live transcription over WebSockets",
        description="Serve live transcription over WebSockets: the Vosk protocol at / and /vosk, Deepgram's at "
        "/v1/listen, OpenAI's Realtime transcription at /v1/realtime, telephone calls as Twilio's Media Streams at "
        "/v1/twilio, asr's own at /v1/stream, files over HTTP as OpenAI's at /v1/audio/transcriptions, and Wyoming at "
        "an address of its own. A browser at / gets a page that transcribes its microphone. "
        "/healthz, /readyz and /metrics answer plain HTTP.",
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", type=int, default=2700, help="default: 2700; 0 chooses a free one")
    command.add_argument(
        "--wyoming",
        metavar="ADDRESS",
        help="speak Home Assistant's protocol, too, at tcp://HOST:PORT (10300 is usual) or unix:///PATH",
    )
    command.add_argument(
        "--call-url", metavar="URL", help="post what is said in telephone calls (/v1/twilio) there, an event a request"
    )
    add_model_arguments(command)
    add_beam_argument(command)
    command.add_argument("--token", help="clients must present it (default: the variable ASR_TOKEN, if it is set)")
    command.add_argument("--insecure", action="store_true", help="listen on a public address without a token")
    command.add_argument("--cert", type=Path, metavar="PEM", help="certificate: serve TLS")
    command.add_argument("--key", type=Path, metavar="PEM", help="its private key")
    command.add_argument(
        "--origin",
        action="append",
        default=[],
        help="of web pages that may connect besides the server's own (default: any)",
    )
    command.add_argument("--max-connections", type=int, default=500, metavar="N", help="default: 500")
    command.add_argument(
        "--max-per-address",
        type=int,
        default=100,
        metavar="N",
        help="connections of one address and process (default: 100); raise it behind a proxy, whose address all have",
    )
    command.add_argument("--log-format", choices=("text", "json"), default="text", help="of the log's lines")
    command.add_argument("--log-transcripts", action="store_true", help="write what was said to the log, too")
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that share the port (default: 1); try one a core"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    import asr
    from asr.errors import ConfigError

    try:
        import websockets  # noqa: F401
        from asr.server.logs import configure_logs
        from asr.server.options import ServerOptions
        from asr.server.workers import run_workers
    except ModuleNotFoundError as error:
        raise ConfigError(f"the server needs {error.name}: pip install 'asr-stream[server]'") from error
    settings = ServerOptions(
        host=options.host,
        port=options.port,
        wyoming=options.wyoming,
        call_url=options.call_url,
        beam=options.beam,
        token=options.token or os.environ.get("ASR_TOKEN"),
        insecure=options.insecure,
        cert=options.cert,
        key=options.key,
        origins=tuple(options.origin),
        max_connections=options.max_connections,
        max_per_address=options.max_per_address,
        log_transcripts=options.log_transcripts,
    )
    work = functools.partial(serve, options.model, options.pronunciations, options.log_format)
    if options.workers == 1:
        work(settings)
    elif options.workers > 1:
        configure_logs(options.log_format)
        # Compile once, and let all load the result.
        asr.load(options.model, pronunciations=options.pronunciations).warm_up(unknown_words=True)
        run_workers(options.workers, work, settings)
    else:
        raise ConfigError(f"--workers {options.workers}: at least 1")
    return 0


def serve(
    model: str | None,
    pronunciations: Path | None,
    log_format: LogFormat,
    settings: ServerOptions,
    entrance: Entrance | None = None,
) -> None:
    """One process's whole work."""
    from asr.server.logs import configure_logs
    from asr.server.process import run_server

    import asr

    configure_logs(log_format)
    recognizer = asr.load(model, pronunciations=pronunciations)
    recognizer.warm_up(unknown_words=True)
    scheme = "wss" if settings.cert else "ws"

    def started(port: int) -> None:
        # In one piece: print writes the end of a line by itself, and another worker's line may come between.
        sys.stderr.write(f"listening on {scheme}://{settings.host}:{port}\n")
        sys.stderr.flush()

    run_server(recognizer, settings, started, entrance)
