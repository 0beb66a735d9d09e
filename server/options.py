"""How a server is set up."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from asr.errors import ConfigError
from asr.search.decoder import DecoderOptions, with_beam

from .callback import check_url
from .listener import parse_address


@dataclass(frozen=True)
class ServerOptions:
    """Limits keep one client, or all together, from taking what the others need."""

    host: str = "127.0.0.1"  # only this machine, unless told otherwise
    port: int = 2700  # the one that clients of vosk-server try
    wyoming: str | None = None  # tcp://HOST:PORT or unix://PATH, where Home Assistant's protocol is spoken
    call_url: str | None = None  # where events of telephone calls are posted to
    reuse_port: bool = False  # several processes serve the same ports: none knows all that happens
    token: str | None = None  # that clients must present
    insecure: bool = False  # listen on a public address without a token
    cert: Path | None = None  # PEM files: with them the server speaks TLS
    key: Path | None = None
    origins: tuple[str, ...] = ()  # of web pages that may connect besides our own; empty: any
    beam: int | None = None  # hypotheses that a search keeps per step; 0 decodes greedily; none: the model's own number
    max_connections: int = 500  # more get 503
    max_per_address: int = 100  # connections of one address; more get 503
    max_message_bytes: int = 1 << 20  # larger ones close the connection with 1009
    max_large_bytes: int = 20 * (1 << 20) + 4_096  # of a message of the Realtime protocol: 15 MiB of audio as base64
    max_large_senders: int = 16  # connections that may send messages so large; others have the limit above
    max_upload_bytes: int = 1 << 30  # of a request with a file; larger ones get 413
    max_queued_s: float = 2.0  # of audio per stream; then its socket is not read
    max_lag_s: float = 0.5  # that audio may wait for the engine; above it, new connections get 503
    max_unsent: int = 1_000  # messages to a client that does not read; more close the connection with 1013
    handshake_s: float = 10.0  # for a client to ask for its connection
    idle_s: float = 60.0  # without a message from the client, the connection is closed
    max_duration_s: float = 24 * 3600.0  # of a connection, and of an uploaded file
    log_transcripts: bool = False  # write what was said to the log
    drain_s: float = 5.0  # for streams to finish when the server is told to stop

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port {self.port}: choose 0 to 65535")
        if min(self.max_connections, self.max_per_address) < 1:
            raise ConfigError("a server takes connections: --max-connections and --max-per-address are at least 1")
        if (self.cert is None) != (self.key is None):
            raise ConfigError("TLS needs both a certificate and a key: give --cert and --key")
        if self.token is not None and len(self.token) < 8:
            raise ConfigError("the token is too short to be a secret: use at least 8 characters")
        if not self.is_local and self.token is None and not self.insecure:
            raise ConfigError(
                f"{self.host} can be reached from other machines: give --token, or --insecure if that is meant"
            )
        with_beam(DecoderOptions(), self.beam)  # before any process serves
        if self.call_url is not None:
            check_url(self.call_url)
        if self.wyoming is not None:
            self._check_wyoming(self.wyoming)

    def _check_wyoming(self, text: str) -> None:
        address = parse_address(text)
        if address.path is None and not _is_local(address.host) and not self.insecure:
            raise ConfigError(
                f"{address} can be reached from other machines, and Wyoming knows no tokens: "
                "give --insecure if that is meant"
            )
        if self.reuse_port and (address.path is not None or not address.port):
            raise ConfigError(f"several workers cannot share {address}: give tcp://HOST:PORT, or run without --workers")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect over WebSockets and HTTP."""
        return _is_local(self.host)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
