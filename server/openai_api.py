"""What all of the OpenAI-shaped paths have in common: errors, and the list of models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from asr.errors import AsrError

TRANSCRIPTIONS = "/v1/audio/transcriptions"
MODELS = "/v1/models"
MODEL = "asr"  # the one model that a server has, whatever name a client asks for


class HttpError(AsrError):
    """A request that cannot be served. The message goes to the client."""

    def __init__(self, status: HTTPStatus, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    @property
    def body(self) -> bytes:
        """As the client gets it."""
        return json.dumps({"error": self.fields}).encode()

    @property
    def fields(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        return {"message": str(self), "type": kind, "param": self.param, "code": self.code}


def bad_request(code: str, message: str, param: str | None = None) -> HttpError:
    return HttpError(HTTPStatus.BAD_REQUEST, code, message, param)


def models(path: str, since_s: int) -> Mapping[str, Any]:
    """The answer to `/v1/models` and `/v1/models/NAME`. Raises HttpError.

    Args:
        path: of the request.
        since_s: when the server was started, in seconds since 1970.
    """
    model = {"id": MODEL, "object": "model", "created": since_s, "owned_by": "asr"}
    name = path.removeprefix(MODELS).strip("/")
    if not name:
        return {"object": "list", "data": [model]}
    if name != MODEL:
        message = f"there is no model {name}: this server has {MODEL}"
        raise HttpError(HTTPStatus.NOT_FOUND, "model_not_found", message, "model")
    return model
