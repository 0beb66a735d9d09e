"""The request and the response of Deepgram's API for whole files (POST to `/v1/listen`), without any input or output.

    client                                             server
    settings in the query of the address, the file     {"metadata": …, "results": {"channels": […], "utterances": […]}}
    itself as the body

Settings mean what they mean for live streams (see `asr.server.deepgram`). `utterances` asks for these one by one, and
`utt_split` says how long a silence parts them. With `encoding` the body may be samples without a header. With
`multichannel` each channel is heard by itself.
"""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from python_multipart.multipart import parse_options_header

from asr.audio.forms import Form
from asr.channels import in_order
from asr.events import Alternative, Final
from asr.search.endpoint import DEFAULT_RULES
from asr.written.form import WrittenForm

from .codec import ProtocolError, Settings, pause_rule
from .compressed import FILE_MARKS, begins_with_frames, is_mp4
from .deepgram import LISTEN, MODEL_INFO, DeepgramCodec, alternative
from .openai_api import HttpError, bad_request
from .wav_header import WAV_ENCODINGS, WAV_MARKS

_MOST_SPLIT_S = 60.0
_HEAD_BYTES = 8  # by which all but MP3 and AAC are known
_UNKNOWN_BYTES = 0xFFFF_FFFF
_WAV_CODES = {encoding: codes for codes, encoding in WAV_ENCODINGS.items()}


class DeepgramError(HttpError):
    """A request that cannot be served, told as Deepgram tells it."""

    @property
    def body(self) -> bytes:
        return json.dumps({"err_code": self.code, "err_msg": str(self), "request_id": str(uuid.uuid4())}).encode()


def as_deepgram(error: HttpError) -> DeepgramError:
    """The same error, told as Deepgram tells it."""
    return DeepgramError(error.status, error.code, str(error), error.param)


class DeepgramFileCodec:
    """See `asr.server.transcribing.FileCodec`. Whatever is wrong raises HttpError.

    Args:
        content_type: that header's value.
        query: the address's, each key with its values.
    """

    path = LISTEN

    def __init__(self, content_type: str, query: Mapping[str, Sequence[str]]) -> None:
        _check_kind(content_type)
        if "callback" in query:
            message = "callback is not served, since the server sends nothing elsewhere: leave it out, and wait"
            raise bad_request("bad_config", message, "callback")
        try:
            live = DeepgramCodec(query)
        except ProtocolError as error:
            raise bad_request(error.code, str(error)) from error
        if live.said is Form.OPUS:
            message = "packets of Opus cannot be told apart in a body: send them in a file, such as Ogg or WebM"
            raise bad_request("bad_config", message, "encoding")
        settings, self.separate = live.asked, live.separate
        if "utt_split" in query:
            settings = replace(settings, rules=(pause_rule(_split_s(query["utt_split"][-1])), *DEFAULT_RULES[1:]))
        self.settings = settings
        self.whole = False
        self._wants_utterances = query.get("utterances", ["false"])[-1].lower() == "true"
        self._id = str(uuid.uuid4())
        self._sha256 = hashlib.sha256()
        self._undecided = "encoding" in query and live.said is None  # whether the body has a header is not yet known
        self._held = b""

    def receive(self, data: bytes) -> bytes:
        """Take a piece of the body; give the file's bytes that are in it."""
        self._sha256.update(data)
        if not self._undecided:
            return data
        self._held += data
        is_file = _is_file(self._held)
        return b"" if is_file is None else self._decide(is_file)

    def finish(self) -> bytes:
        """The body is over; give what was held back."""
        self.whole = True
        return self._decide(False) if self._held else b""

    def _decide(self, is_file: bool) -> bytes:
        """What was held back, behind a header in any case."""
        data, self._held, self._undecided = self._held, b"", False
        return data if is_file else _header(self.settings) + data

    def stream(self) -> None:
        """The answer is one, at the end."""

    def render(
        self, finals: Sequence[Final], duration_s: float, warning: str = "", channels: int = 1
    ) -> tuple[str, bytes]:
        """The answer: its content type and its body.

        Args:
            warning: what was wrong with a file of which a part could be heard.
            channels: that were heard apart.
        """
        metadata: dict[str, Any] = {
            "transaction_key": "deprecated",
            "request_id": self._id,
            "sha256": self._sha256.hexdigest(),
            "created": datetime.now(UTC).isoformat(),
            "duration": round(duration_s, 3),
            "channels": channels,
            "models": [self._id],
            "model_info": {self._id: MODEL_INFO},
        }
        if warning:
            metadata["warnings"] = [{"parameter": "body", "type": "bad_audio", "message": warning}]
        own = [[final for final in finals if (final.channel or 0) == channel] for channel in range(channels)]
        results: dict[str, Any] = {"channels": [self._channel(said) for said in own]}
        if self._wants_utterances:
            results["utterances"] = [self._utterance(final) for final in in_order(finals)]
        body = {"metadata": metadata, "results": results}
        return "application/json", json.dumps(body, ensure_ascii=False).encode()

    def _channel(self, finals: Sequence[Final]) -> dict[str, Any]:
        count = max((1 + len(final.alternatives) for final in finals), default=1)
        return {"alternatives": [self._reading([_nth(final, n) for final in finals]) for n in range(count)]}

    def _reading(self, parts: Sequence[Final | Alternative]) -> dict[str, Any]:
        written = self.settings.written
        words = tuple(word for part in parts for word in part.words)
        reading = alternative(" ".join(part.text for part in parts), words)
        if not (isinstance(written, WrittenForm) and written.punctuation):
            for word in reading["words"]:
                del word["punctuated_word"]
        return reading

    def _utterance(self, final: Final) -> dict[str, Any]:
        where = {"start": final.start_s, "end": final.end_s, "channel": final.channel or 0, "id": str(uuid.uuid4())}
        return {**where, **self._reading([final])}


def _check_kind(content_type: str) -> None:
    """Refuse what holds no sound but speaks of it."""
    kind, _ = parse_options_header(content_type)
    if kind == b"application/json":
        message = "send the file itself as the body, with its kind as Content-Type: the server fetches no addresses"
        raise bad_request("bad_content_type", message)
    if kind == b"multipart/form-data":
        message = "send the file itself as the body and not in a form, as in curl --data-binary @NAME"
        raise bad_request("bad_content_type", message)


def _split_s(text: str) -> float:
    try:
        split_s = float(text)
    except ValueError:
        split_s = -1.0
    if not 0 <= split_s <= _MOST_SPLIT_S:
        message = f"utt_split must be a number of seconds from 0 to {_MOST_SPLIT_S:.0f}"
        raise bad_request("bad_config", message, "utt_split")
    return split_s


def _is_file(head: bytes) -> bool | None:
    """Whether a body that begins so says itself how it is to be read; None if more is needed to tell."""
    if len(head) < _HEAD_BYTES:
        return None
    if head[:4] in WAV_MARKS or head[:4] in FILE_MARKS or is_mp4(head):
        return True
    return begins_with_frames(head)


def _header(settings: Settings) -> bytes:
    """That of a WAV file of unknown length: behind it, samples are a file as any other."""
    code, bits = _WAV_CODES[settings.encoding]
    rate_hz, channels = round(settings.sample_rate_hz), settings.channels
    frame_bytes = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, bits)
    unknown = struct.pack("<I", _UNKNOWN_BYTES)
    return b"RIFF" + unknown + b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + unknown


def _nth(final: Final, number: int) -> Final | Alternative:
    """An utterance's reading of that rank, or its first where it has not so many."""
    return final.alternatives[number - 1] if 0 < number <= len(final.alternatives) else final
