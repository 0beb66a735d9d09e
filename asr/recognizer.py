"""Recognition: the model and what it takes to run it, shared by any number of streams."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np

from asr.arguments import check_rate_kind, check_source, lasting, list_of
from asr.audio.audio_file import AudioFile
from asr.audio.pcm import Encoding
from asr.bundle import LEXICON_FILE, Bundle, load_bundle
from asr.channels import Channels, are_separate, in_order
from asr.errors import AsrError, ConfigError, DataError, ModelError
from asr.events import Event, Final, Word
from asr.lexicon.lexicon import Lexicon, read_lexicon
from asr.lexicon.phonemes import TOKENS
from asr.lexicon.pronounce import Pronouncer
from asr.network.features import BLOCK_FRAMES, Fbank
from asr.network.quantized import QuantizedModel
from asr.network.shape import FRAME_REDUCTION
from asr.network.state import StreamState
from asr.search.beam import BeamDecoder
from asr.search.decoder import DecoderOptions, Recorder, WordDecoder
from asr.search.endpoint import DEFAULT_RULES, EndpointRule
from asr.search.greedy import GreedyDecoder
from asr.search.hot_phrases import spoken_words
from asr.search.hotwords import HotWord
from asr.search.lexicon_tree import LexiconTree
from asr.search.second_lm import SecondOpinion
from asr.search.word_beam import WordBeamDecoder
from asr.search.words import TokenReader
from asr.search.working_memory import WorkingMemory
from asr.stream import Stream, StreamError
from asr.text.tokens import Tokenizer
from asr.written.form import WrittenForm, make_writer
from asr.written.punctuator import Punctuator
from asr.written.replacements import Replacement

Precision = Literal["int8", "float32"]

_PRONOUNCED = 8_192  # words whose sounds are remembered
_PART = 1 << 18  # samples that are taken at a time
_FAR_BLOCKS = 8  # of a stream that are worked on at once: 0.96 s
SHIPPED = "english"  # name of the model in asr.pretrained


@dataclass(frozen=True)
class Transcript:
    """A whole recording's text."""

    finals: tuple[Final, ...]  # in the order in which they begin; `Final.channel` says of which channel each is
    duration_s: float

    @property
    def text(self) -> str:
        """All utterances, one a line."""
        return "\n".join(final.text for final in self.finals)

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for final in self.finals for word in final.words)


def load(
    model: str | Path | None = None, precision: Precision = "int8", pronunciations: str | Path | None = None
) -> Recognizer:
    """Load a recogniser.

        recognizer = asr.load()
        print(recognizer.transcribe("talk.mp3").text)

    Args:
        model: path of a model folder, or ``english``, the model that comes with the package and the default.
        precision: ``int8`` runs the fast kernel, whose results are the same in every bit whatever else is
            recognised beside them; ``float32`` runs the network as it was trained, slower, and needs torch.
        pronunciations: text file of words and how they are said (docs/lexicon.md), which go before the model's.

    Raises:
        ModelError: the folder is missing, incomplete or damaged.
        DataError: the pronunciations cannot be read.
    """
    own = None if pronunciations is None else read_lexicon(Path(pronunciations))
    if precision not in ("int8", "float32"):
        raise ConfigError(f"unknown precision {precision!r}: choose int8 or float32")
    if model is not None and model != SHIPPED:
        return Recognizer(load_bundle(Path(model)), precision, own)
    try:
        shipped = resources.files("asr.pretrained")
    except ModuleNotFoundError as error:
        raise ModelError(
            "the shipped model is not installed: install the package, or give the path of a model"
        ) from error
    with resources.as_file(shipped) as path:
        return Recognizer(load_bundle(path), precision, own)


class Recognizer:
    """A model and what it takes to run it. Make one with `load`, then any number of streams.

    Thread safety: a recogniser may be used from any number of threads at once; it holds nothing that
    changes. A `Stream` belongs to one caller at a time.
    """

    def __init__(self, bundle: Bundle, precision: Precision = "int8", pronunciations: Lexicon | None = None) -> None:
        self.bundle = bundle
        self.fbank = Fbank(bundle.features)
        lexicon, own = bundle.lexicon, pronunciations
        self._pronouncer: Pronouncer | None = None
        self._tree: LexiconTree | None = None
        self._second: SecondOpinion | None = None
        self._memory = WorkingMemory()
        if lexicon is not None:
            self._pronouncer = Pronouncer([lexicon] if own is None else [own, lexicon], bundle.g2p)
            self._tree = LexiconTree.of_lexicon(lexicon, bundle.lm, own)
            if bundle.second_lm is not None and bundle.lm is not None:
                self._second = SecondOpinion.of(bundle.second_lm, self._tree.words, bundle.lm)
        elif own is not None:
            raise ConfigError("this model writes letters: only a model with a lexicon takes pronunciations")
        self._model = _network(bundle, precision)

    @property
    def sample_rate_hz(self) -> int:
        """The model's own sample rate: audio at this rate needs no resampling."""
        return self.bundle.features.sample_rate_hz

    @property
    def step_s(self) -> float:
        """Seconds from one row of emissions to the next."""
        return FRAME_REDUCTION * self.bundle.features.hop_ms / 1000

    @property
    def latency_s(self) -> float:
        """Longest time from a sound to the network's answer, the computation not counted.

        A block must fill (120 ms) with its last window (15 ms more), and the lookahead come after it.
        """
        features = self.bundle.features
        block_ms = BLOCK_FRAMES * features.hop_ms + features.window_ms - features.hop_ms
        return (block_ms + self.bundle.shape.lookahead_ms) / 1000

    def stream(
        self,
        sample_rate: float = 16_000,
        encoding: Encoding = "s16le",
        channels: int = 1,
        rules: Sequence[EndpointRule] = DEFAULT_RULES,
        decoding: DecoderOptions | None = None,
        hot_words: Iterable[HotWord | str] = (),
        written: bool | WrittenForm = True,
        replacements: Iterable[Replacement] = (),
        partials: bool = True,
    ) -> Stream:
        """Open a stream.

        Args:
            sample_rate: of the audio that will be fed, in Hz; any from 4,000 up.
            encoding: of bytes that will be fed; NumPy arrays say themselves what they hold.
            channels: interleaved channels, which are averaged.
            rules: when an utterance ends; an empty sequence means only at the end of the stream.
            decoding: how to search; by default as the model's makers tuned it.
            hot_words: words and phrases to expect. `Stream.set_hot_words` changes them later.
            written: whether events have the written form (*It was $25.*), or which parts of it, see docs/written.md;
                `Final.spoken` is as heard.
            replacements: what else to write otherwise; they hold without ``written`` too.
            partials: whether events come while an utterance goes on; without them the finals are the same, for less.
        """
        check_rate_kind(sample_rate)
        chosen_rules = list_of(EndpointRule, rules, "rules", 'EndpointRule("silence", speech=True, silence_s=0.9)')
        replacements = list_of(Replacement, replacements, "replacements", 'Replacement("open a i", "OpenAI")')
        decoding = decoding if decoding is not None else self.bundle.decoding
        decoder, tokenizer = self.make_decoder(decoding), self.tokenizer(decoding.method)
        stream = Stream(
            self,
            sample_rate,
            encoding,
            channels,
            chosen_rules,
            decoder,
            tokenizer,
            decoding.alternatives,
            make_writer(written, replacements, self.bundle.punctuation),
            partials,
        )
        stream.set_hot_words(hot_words)
        return stream

    def tokenizer(self, method: Literal["beam", "greedy"] = "beam") -> Tokenizer:
        """What decoding reads: phonemes or letters, which are searched for words; but greedy decoding, which has no
        lexicon and no language model, reads word pieces if the model has them."""
        return self.bundle.pieces if method == "greedy" and self.bundle.pieces is not None else self.bundle.tokenizer

    def emissions(self, samples: np.ndarray, method: Literal["beam", "greedy"] = "beam") -> np.ndarray:
        """What the network says of a whole utterance, ``(steps, tokens)`` natural-log probabilities.

        For tuning and comparing decoders: exactly what a stream's decoder is given.

        Args:
            samples: ``(n,)`` at the model's own rate.
            method: of decoding, whose `tokenizer` says what the columns are.
        """
        recorder, tokenizer = Recorder(), self.tokenizer(method)
        stream = Stream(self, self.sample_rate_hz, "s16le", 1, (), recorder, tokenizer, 0)
        stream.accept(samples)
        stream.finish()
        return recorder.rows(len(tokenizer))

    def make_decoder(self, decoding: DecoderOptions | None = None) -> WordDecoder:
        """A decoder for the `emissions` of its method, with the model's language model if it has one.

        Raises ModelError if words are to be found in phonemes and the model has no lexicon.
        """
        decoding = decoding if decoding is not None else self.bundle.decoding
        tokenizer = self.tokenizer(decoding.method)
        if decoding.method == "greedy":
            return TokenReader(GreedyDecoder(tokenizer.blank), tokenizer)
        if self._tree is not None:
            second = self._second if decoding.second_share else None
            lm, pronounce = self.bundle.lm, self._pronounce
            return WordBeamDecoder(decoding, tokenizer.tokens, self._tree, lm, pronounce, True, second, self._memory)
        if tokenizer.tokens == TOKENS:
            raise ModelError(
                f"model folder {self.bundle.path} has no {LEXICON_FILE}, without which its phonemes are no words: "
                "make one with `asr lexicon build` and put it there"
            )
        return TokenReader(BeamDecoder(decoding, tokenizer, self.bundle.lm if decoding.alpha else None), tokenizer)

    def learn(self, hot_words: Iterable[HotWord]) -> None:
        """Find out how hot words are said, so that a stream that is to expect them begins without delay.

        A word that nobody knows takes two milliseconds. Words that cannot be said are left for the stream to refuse.
        """
        if self._pronouncer is not None:
            for word in dict.fromkeys(word for hot in hot_words for word in spoken_words(hot.phrase)):
                with contextlib.suppress(DataError):
                    self._pronounce(word)

    @functools.cached_property
    def _pronounce(self) -> Callable[[str], tuple[tuple[str, ...], ...]]:
        """A function that gives the sounds of a word, in each of its ways. It remembers what it was asked lately."""
        pronouncer, tokens = self._pronouncer, self.bundle.tokenizer.tokens
        assert pronouncer is not None

        @functools.lru_cache(_PRONOUNCED)
        def pronounce(word: str) -> tuple[tuple[str, ...], ...]:
            return tuple(tuple(tokens[sound] for sound in said) for said in pronouncer.pronounce(word)[0])

        return pronounce

    def transcribe(
        self,
        source: str | Path | BinaryIO | np.ndarray,
        rules: Sequence[EndpointRule] = DEFAULT_RULES,
        decoding: DecoderOptions | None = None,
        hot_words: Iterable[HotWord | str] = (),
        written: bool | WrittenForm = True,
        replacements: Iterable[Replacement] = (),
        sample_rate: float = 16_000,
        channels: Channels = "mixed",
    ) -> Transcript:
        """Transcribe a file, or an open binary file, of any kind that `asr.audio.audio_file` reads, or samples.

        Args:
            source: samples are ``(n,)`` or ``(n, channels)``, of any kind that `Stream.accept` takes.
            rules, decoding, hot_words, written, replacements: see `stream`.
            sample_rate: of samples, in Hz; a file says its own.
            channels: ``mixed`` averages them; ``separate`` hears each by itself, for the cost of a recording each,
                and `Final.channel` says which.

        Raises AudioError for a file that is damaged; `transcribe_events` gives what was recognised before.
        """
        finals: list[Final] = []
        duration_s = 0.0
        separate = are_separate(channels)
        if isinstance(source, np.ndarray):
            count = source.shape[1] if source.ndim == 2 else 1
            if separate and count > 1:
                hot_words, replacements = lasting(hot_words), lasting(replacements)
                parts = [
                    self.transcribe(column, rules, decoding, hot_words, written, replacements, sample_rate)
                    for column in source.T
                ]
                finals = [replace(final, channel=k) for k, part in enumerate(parts) for final in part.finals]
                return Transcript(in_order(finals), parts[0].duration_s)
            stream = self.stream(
                sample_rate, "s16le", count, rules, decoding, hot_words, written, replacements, partials=False
            )
            found = [
                event
                for begin in range(0, len(source), _PART)
                for event in stream.accept(source[begin : begin + _PART])
            ]
            finals = [event for event in (*found, *stream.finish()) if isinstance(event, Final)]
            return Transcript(tuple(finals), stream.position_s)
        events = self.transcribe_events(
            source, rules, decoding, hot_words, None, written, replacements, partials=False, channels=channels
        )
        for event, read_s in events:
            duration_s = read_s
            if isinstance(event, Final):
                finals.append(event)
        return Transcript(in_order(finals) if separate else tuple(finals), duration_s)

    def transcribe_events(
        self,
        source: str | Path | BinaryIO,
        rules: Sequence[EndpointRule] = DEFAULT_RULES,
        decoding: DecoderOptions | None = None,
        hot_words: Iterable[HotWord | str] = (),
        progress: Callable[[float, float | None], None] | None = None,
        written: bool | WrittenForm = True,
        replacements: Iterable[Replacement] = (),
        partials: bool = True,
        channels: Channels = "mixed",
    ) -> Iterator[tuple[Event | None, float]]:
        """Transcribe a file in constant memory, giving events as they come, each with the seconds read so far.

        The last pair has no event and the length of the recording. ``progress`` is called with the
        seconds read so far and the file's stated length, if it states one. When the file turns out to
        be damaged, the events of what could be decoded come first and then AudioError is raised.
        Events of separate ``channels`` come side by side, each channel's in their own order.
        """
        check_source(source)
        separate, hot_words, replacements = are_separate(channels), lasting(hot_words), lasting(replacements)
        with AudioFile(source, separate=separate) as audio:
            make_stream = functools.partial(
                self.stream,
                audio.sample_rate_hz,
                rules=rules,
                decoding=decoding,
                hot_words=hot_words,
                written=written,
                replacements=replacements,
                partials=partials,
            )
            streams = [make_stream()]  # one for each channel, of which the first block says how many there are
            failure: AsrError | None = None
            try:
                for block in audio:
                    parts = block.T if separate else [block]
                    while len(streams) < len(parts):
                        streams.append(make_stream())
                    for channel, (stream, part) in enumerate(zip(streams, parts, strict=True)):
                        for event in stream.accept(part):
                            yield _of_channel(event, channel, len(streams)), stream.position_s
                    if progress is not None:
                        progress(streams[0].position_s, audio.duration_s)
            except AsrError as error:
                failure = error if audio.name in str(error) else type(error)(f"{audio.name}: {error}")
            for channel, stream in enumerate(streams):
                for event in stream.finish():
                    yield _of_channel(event, channel, len(streams)), stream.position_s
            if failure is not None:
                raise failure
            yield None, streams[0].position_s

    def warm_up(self, unknown_words: bool = False) -> None:
        """Have the kernels compiled now: the very first use of the package on a machine waits for that.

        Args:
            unknown_words: also those that only hot words need which the lexicon lacks.
        """
        if unknown_words and self.bundle.g2p is not None:
            self.bundle.g2p.pronounce("banana")
        if self.bundle.punctuation is not None:  # silence would bring it no word
            punctuator = Punctuator(self.bundle.punctuation)
            punctuator.accept("banana", None)
            punctuator.decide(over=True)
        stream = self.stream(self.sample_rate_hz)
        stream.accept(np.zeros(self.sample_rate_hz // 2, dtype=np.float32))
        stream.finish()

    def advance(self, streams: Sequence[Stream]) -> list[list[Event]]:
        """One batched step: each stream that is `Stream.ready` moves on by one block of 120 ms.

        A stream that has been mute (digital silence) for a second costs next to nothing: the network waits,
        as it was when the sound stopped, for sound to come back.

        Args:
            streams: distinct streams of this recogniser, ready or not. No other thread may use them meanwhile.

        Returns:
            The new events of each stream, in the order of ``streams``.
        """
        if len({id(stream) for stream in streams}) != len(streams):
            raise StreamError("a stream is named twice in one step: name each once")
        if any(stream._recognizer is not self for stream in streams):
            raise StreamError("a stream of another recogniser cannot be advanced by this one: use its own")
        blocks = [(stream, stream._take_block()) for stream in streams if stream.ready]
        events: dict[int, list[Event]] = {}
        heard = [(stream, block) for stream, block in blocks if not block.mute]
        if heard:
            hearing = [stream for stream, _ in heard]
            rows_of = self._hear(hearing, np.stack([block.windows for _, block in heard]))
            for (stream, block), rows in zip(heard, rows_of, strict=True):
                events[id(stream)] = stream._absorb(block, rows)
        for stream, block in blocks:
            if block.mute:
                events[id(stream)] = stream._absorb(block, stream._mute_rows)
        return [events.get(id(stream), []) for stream in streams]

    def advance_far(self, stream: Stream) -> list[Event]:
        """Move a stream on by up to a second of what it has: the same events as block by block.

        The weights are read from memory once for all of it, which saves a third of the time where they do not fit the
        caches.
        """
        # In float32 what comes of a block would depend, in some bits, on what else is worked on.
        most = _FAR_BLOCKS if isinstance(self._model, QuantizedModel) else 1
        blocks = [stream._take_block() for _ in range(most) if stream.ready]
        events: list[Event] = []
        for mute, group in itertools.groupby(blocks, key=lambda block: block.mute):
            together = list(group)
            rows = [stream._mute_rows] * len(together)
            if not mute:
                (heard,) = self._hear([stream], np.concatenate([block.windows for block in together])[None])
                rows = list(heard.reshape(len(together), -1, heard.shape[1]))
            for block, own in zip(together, rows, strict=True):
                events += stream._absorb(block, own)
        return events

    def _hear(self, streams: Sequence[Stream], windows: np.ndarray) -> list[np.ndarray]:
        """Run the network over ``(streams, frames, window_samples)``; each stream's state moves on.

        Returns the log probabilities, ``(steps, tokens)``, of what each stream reads.
        """
        state = StreamState.stack([stream._state for stream in streams])
        pieces = any(stream._reads_pieces for stream in streams)
        logits, state = self._model.advance(self.fbank(windows), state, pieces)
        for stream, own in zip(streams, state.split(), strict=True):
            stream._state = own
        letters = len(self.bundle.tokenizer)
        log_probs = _log_softmax(logits[:, :, :letters])
        return [
            _log_softmax(logits[i, :, letters:]) if stream._reads_pieces else log_probs[i]
            for i, stream in enumerate(streams)
        ]

    def initial_state(self) -> StreamState:
        """What the network knows at the beginning of a stream."""
        return self._model.initial_state(1)


def _of_channel(event: Event, channel: int, count: int) -> Event:
    """An event of one of so many channels."""
    return replace(event, channel=channel) if count > 1 else event


class _Network(Protocol):
    """What runs the network: `QuantizedModel` or `FloatModel`."""

    def initial_state(self, batch: int = 1) -> StreamState: ...

    def advance(
        self, frames: np.ndarray, state: StreamState, pieces: bool = True
    ) -> tuple[np.ndarray, StreamState]: ...


def _network(bundle: Bundle, precision: Precision) -> _Network:
    if precision == "int8":
        return QuantizedModel(bundle.shape, bundle.weights)
    try:
        from asr.network.float_model import FloatModel
        from asr.network.model import AcousticModel
    except ImportError as error:
        raise ConfigError(
            'precision="float32" runs the network in torch, which is not installed: pip install "asr-stream[torch]"'
        ) from error
    return FloatModel(AcousticModel.of_weights(bundle.shape, bundle.weights))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural-log probabilities of ``(…, tokens)`` logits, each row on its own."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
