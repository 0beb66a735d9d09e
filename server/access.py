"""Who may connect: a token, and the origins of web pages."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

from .options import ServerOptions

TOKEN_NEEDED = "a token is needed: send Authorization: Bearer TOKEN"
FOREIGN = "pages of this origin may not connect: see asr serve --origin"
_KEY = "openai-insecure-api-key."  # before the token, where OpenAI's package for browsers puts it


def may_enter(options: ServerOptions, authorization: str, target: str, subprotocols: Sequence[str] = ()) -> bool:
    """Whether the token was presented, if one is asked for.

    Args:
        authorization: the header's value.
        target: of the request, whose query may hold the token: browsers cannot set headers.
        subprotocols: that a WebSocket's client offers; one of them may hold the token.
    """
    if options.token is None:
        return True
    presented = authorization.partition(" ")[2]
    if not presented:
        presented = parse_qs(urlsplit(target).query).get("token", [""])[0]
    if not presented:
        presented = next((name.removeprefix(_KEY) for name in subprotocols if name.startswith(_KEY)), "")
    return is_token(options, presented)


def is_token(options: ServerOptions, presented: str) -> bool:
    """Whether this is the token, if one is asked for."""
    return options.token is None or hmac.compare_digest(presented.encode(), options.token.encode())


def may_ask(options: ServerOptions, origins: Sequence[str], hosts: Sequence[str]) -> bool:
    """Whether a browser's page, if it is one that asks, is of an origin that may: our own page always may."""
    return not options.origins or all(o in options.origins or o.partition("://")[2] in hosts for o in origins)
