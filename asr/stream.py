"""A stream: audio in pieces of any size, events out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

from asr.arguments import check_chunk, list_of
from asr.audio.pcm import Encoding, Pcm, PcmDecoder
from asr.audio.resample import StreamResampler
from asr.bundle import Bundle
from asr.errors import AsrError, ConfigError
from asr.events import Alternative, Event, Final, Partial, Reason
from asr.network.features import BLOCK_FRAMES, Fbank, StreamingFbank
from asr.network.shape import FRAME_REDUCTION
from asr.network.state import StreamState
from asr.search.beam import BeamDecoder
from asr.search.decoder import WordDecoder
from asr.search.endpoint import EndpointRule, find_endpoint
from asr.search.hotwords import HotWord
from asr.search.word_beam import WordBeamDecoder
from asr.search.words import TokenReader, WordBuilder
from asr.text.tokens import Tokenizer
from asr.written.writer import Writer

_TAIL_S = 0.3  # silence added after the last sample: the network emits a word's end a little after it was heard
_MUTE_SPREAD = 2 / 32_768  # a block that strays no further than the last bit of 16-bit audio holds no sound
_MUTE_BLOCKS = 8  # after 0.96 s of such blocks all that was said before has come out of the network
_MUTE_LOG_PROB = -30.0  # natural log, of every token but the blank while a stream is mute


class StreamError(AsrError):
    """A stream was used after its end, or by two callers at once."""


class Block(NamedTuple):
    """What the network works on at a time."""

    windows: np.ndarray  # (BLOCK_FRAMES, window_samples)
    number: int  # of the stream's blocks, from 1 on
    mute: bool  # whether it and those before hold so little that the network need not hear it
    last: bool  # whether the stream ends with it


class Engine(Protocol):
    """What a stream asks of its recogniser, `asr.recognizer.Recognizer`."""

    bundle: Bundle
    fbank: Fbank

    @property
    def step_s(self) -> float: ...

    def initial_state(self) -> StreamState: ...

    def advance_far(self, stream: Stream) -> list[Event]: ...


class Stream:
    """One stream of audio. Make it with `Recognizer.stream`.

        for chunk in microphone:
            for event in stream.accept(chunk):
                show(event)
        for event in stream.finish():
            show(event)

    The same audio gives the same events, bit for bit, however it is cut into chunks and whatever other
    streams are recognised at the same time (with float32 precision, the latter only up to rounding).
    Memory and the cost of a second of audio do not grow with the stream's length.

    Thread safety: a stream may move between threads but must not be used by two at once.
    """

    def __init__(
        self,
        recognizer: Engine,
        sample_rate: float,
        encoding: Encoding,
        channels: int,
        rules: tuple[EndpointRule, ...],
        decoder: WordDecoder,
        tokenizer: Tokenizer,
        alternatives: int,
        written: Writer | None = None,
        partials: bool = True,
    ) -> None:
        bundle = recognizer.bundle
        self._recognizer = recognizer
        self._rules = rules
        self._step_s = recognizer.step_s
        self._writer = WordBuilder(bundle.calibration, self._step_s)
        self._reads_pieces = tokenizer is bundle.pieces
        self._mute_rows = np.full((BLOCK_FRAMES // FRAME_REDUCTION, len(tokenizer)), _MUTE_LOG_PROB, dtype=np.float32)
        self._mute_rows[:, tokenizer.blank] = 0.0
        self._rate_hz = bundle.features.sample_rate_hz
        self._pcm = PcmDecoder(encoding, channels)
        self._resampler = StreamResampler(sample_rate, self._rate_hz)
        self._fbank = StreamingFbank(recognizer.fbank, BLOCK_FRAMES)
        self._state = recognizer.initial_state()
        self._decoder = decoder
        self._alternatives = alternatives
        self._written = written
        self._partials = partials
        self._samples = 0  # at the model's rate, of real audio
        self._end_s = math.inf  # of the stream, once it is known
        self._warming = bundle.shape.delay  # outputs still to drop
        self._steps = 0  # network steps decoded since the stream began
        self._utterance_step = 0  # the step at which the utterance began
        self._blocks = 0  # taken so far
        self._still_blocks = 0  # taken without any sound in them since the last with some
        self._flushes: deque[tuple[int, float]] = deque()  # after which block to end the utterance, and seconds put in
        self._put_in_s = 0.0  # silence that was put in before this utterance, which is no time of the stream
        self._heard = self._shown = Partial("", (), 0)  # the last partial, as heard and as it was given
        self._finished = False

    @property
    def position_s(self) -> float:
        """Seconds of audio taken so far."""
        return self._samples / self._rate_hz

    @property
    def ready(self) -> bool:
        """Whether `Recognizer.advance` would move this stream on."""
        return self._fbank.ready

    def set_hot_words(self, hot_words: Iterable[HotWord | str]) -> None:
        """Expect these words and phrases from the next utterance on, in place of those before.

        The next utterance begins at an endpoint, so in the silence after it they hold at once.
        A plain string has the default boost. Raises ConfigError that names a phrase which cannot be
        written with the model's alphabet, or if the stream decodes greedily, which leaves no choice.
        """
        given = list_of((HotWord, str), hot_words, "hot_words", '"quandary", HotWord("new york", 6.0)')
        chosen = tuple(HotWord(hot) if isinstance(hot, str) else hot for hot in given)
        decoder = self._decoder.decoder if isinstance(self._decoder, TokenReader) else self._decoder
        if isinstance(decoder, BeamDecoder | WordBeamDecoder):
            decoder.set_hot_words(chosen)
        elif chosen:
            raise ConfigError("hot words need the beam decoder: choose DecoderOptions(method='beam')")

    def accept(self, pcm: Pcm) -> list[Event]:
        """Take a chunk of any length and return the events that it brings.

        Raises AudioError for audio that cannot be used; the stream is then as it was before the call.
        """
        self.push(pcm)
        return self._drain()

    def finish(self) -> list[Event]:
        """End the stream and return its last events. Nothing can be accepted after this."""
        self.end()
        return self._drain()

    def push(self, pcm: Pcm) -> None:
        """Queue a chunk without recognising it: `Recognizer.advance` does, for many streams at once."""
        if self._finished:
            raise StreamError("the stream is finished: open a new one")
        check_chunk(pcm)
        samples = self._resampler.accept(self._pcm.accept(pcm))
        self._samples += len(samples)
        self._fbank.push(samples)

    def flush(self) -> list[Event]:
        """End the utterance here, as if its speaker had paused, and return the events that this brings.

        What was heard so far is written to its end; word times go on as if nothing had happened.
        """
        self.push_flush()
        return self._drain()

    def push_flush(self) -> None:
        """Queue the end of the utterance: the step that reaches it closes it. The stream goes on."""
        if self._finished:
            raise StreamError("the stream is finished: open a new one")
        put_in = self._push_silence()
        self._flushes.append((self._blocks + self._fbank.ready_blocks, put_in))

    def end(self) -> None:
        """Queue the end of the stream: the step that reaches it closes the last utterance."""
        if self._finished:
            raise StreamError("the stream is finished already")
        self._finished = True
        samples = self._resampler.finish()
        self._samples += len(samples)
        self._end_s = self.position_s
        self._fbank.push(samples)
        if self._samples == 0:
            return
        self._push_silence()

    def _push_silence(self) -> float:
        """Queue silence in which all that was heard comes out, until a block is full. Returns its seconds."""
        tail_s = _TAIL_S + self._recognizer.bundle.shape.lookahead_ms / 1000
        tail = round(tail_s * self._rate_hz)
        self._fbank.push(np.zeros(tail, dtype=np.float32))
        missing = self._fbank.missing_samples
        self._fbank.push(np.zeros(missing, dtype=np.float32))
        return (tail + missing) / self._rate_hz

    def _drain(self) -> list[Event]:
        events: list[Event] = []
        while self.ready:
            events += self._recognizer.advance_far(self)
        return events

    @property
    def _utterance_s(self) -> float:
        """When the utterance began, from the start of the stream."""
        return max(0.0, self._utterance_step * self._step_s - self._put_in_s)

    def _take_block(self) -> Block:
        self._blocks += 1
        self._still_blocks = self._still_blocks + 1 if self._fbank.is_still(_MUTE_SPREAD) else 0
        # The network knows silence as faint noise. In none at all, as a mute button sends, it would drift: its running
        # mean of the input goes to the floor, and after half a minute a word may come of nothing.
        mute = self._still_blocks > _MUTE_BLOCKS
        windows = self._fbank.take_windows()
        return Block(windows, self._blocks, mute, self._finished and not self.ready)

    def _absorb(self, block: Block, log_probs: np.ndarray) -> list[Event]:
        """Decode one block, ``(steps, tokens)``, and return what it brings."""
        rows = log_probs[self._warming :]
        self._warming = max(0, self._warming - len(log_probs))
        self._decoder.accept(rows)
        self._steps += len(rows)
        events: list[Event] = []
        reading = self._decoder.best()
        silence_s = self._decoder.trailing_blanks() * self._step_s
        length_s = (self._steps - self._utterance_step) * self._step_s
        rule = find_endpoint(self._rules, bool(reading.words), silence_s, length_s)
        flush = bool(self._flushes) and self._flushes[0][0] == block.number
        if block.last or flush or rule is not None:
            final = self._final("end" if block.last else "flush" if flush or rule is None else rule.reason)
            if final.text:
                events.append(final)
            if flush:
                self._put_in_s += self._flushes.popleft()[1]
            self._decoder.reset()
            self._utterance_step = self._steps
            self._heard = self._shown = Partial("", (), 0)
            return events
        if not self._partials:
            return events
        text, stable = reading.text, self._decoder.stable_chars()
        if (text, stable) != (self._heard.text, self._heard.stable_chars):
            partial = Partial(text, self._writer.words(reading, self._utterance_s, self._end_s), stable)
            self._heard = partial
            if self._written is not None:
                partial = self._written.partial(partial, self._decoder.stable_words())
                if (partial.text, partial.stable_chars) == (self._shown.text, self._shown.stable_chars):
                    return events
            self._shown = partial
            events.append(partial)
        return events

    def _final(self, reason: Reason) -> Final:
        best, *others = self._decoder.finals(1 + self._alternatives)
        alternatives = tuple(
            Alternative(other.text, self._writer.words(other, self._utterance_s, self._end_s), other.score)
            for other in others
        )
        words = self._writer.words(best, self._utterance_s, self._end_s)
        final = Final(best.text, words, reason, best.score, alternatives)
        return final if self._written is None else self._written.final(final)
