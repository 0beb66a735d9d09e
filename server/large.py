"""Messages that are larger than others, and what is said to those whose are too large."""

from __future__ import annotations

import weakref

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode
from websockets.protocol import State

from .codec import Codec
from .options import ServerOptions

_WAITING = 1  # messages that may wait to be read, where each may be large


class LargeMessages:
    """Lets some connections send messages as large as OpenAI's API takes. They are counted, for each may hold that much
    memory: whoever comes when there are many has the limit that all others have."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._senders: weakref.WeakSet[ServerConnection] = weakref.WeakSet()

    def allow(self, socket: ServerConnection) -> None:
        """Raise a connection's limit, if there is room for one more. Call it before the handshake is answered."""
        senders = sum(sender.state is not State.CLOSED for sender in self._senders)
        if senders >= self._options.max_large_senders:
            return
        self._senders.add(socket)
        socket.protocol.max_message_size = self._options.max_large_bytes
        socket.recv_messages.high, socket.recv_messages.low = _WAITING, 0


def explain_size(socket: ServerConnection, codec: Codec) -> None:
    """Tell a client in its protocol's way that its message is too large, before the connection is closed for that."""
    fail = socket.protocol.fail

    def explain(code: CloseCode | int, reason: str = "") -> None:
        if code == CloseCode.MESSAGE_TOO_BIG and socket.protocol.state is State.OPEN:
            most = socket.protocol.max_message_size
            message = f"a message may have {most} bytes, and this one has more: send audio in smaller pieces"
            for reply in codec.failed("message_too_large", message):
                socket.protocol.send_text(reply.text.encode())
        fail(code, reason)

    socket.protocol.fail = explain  # type: ignore[method-assign]
