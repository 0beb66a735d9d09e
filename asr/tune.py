"""Tuning of the search on a development set: its weights, and what its confidences mean.

The network runs once; its emissions are then decoded again and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.errors import DataError
from asr.recognizer import Recognizer
from asr.search.decoder import DecoderOptions, Reading
from asr.search.words import Calibration, features
from asr.text.score import ErrorCount, count_word_errors, right_words

# The weights, how far the first trial of each goes, and where trials stop.
_STEPS = {"alpha": (0.2, 0.04), "beta": (0.6, 0.1), "oov_penalty": (2.0, 0.4), "second_share": (0.2, 0.04)}
_RIDGE = 1e-3  # keeps the fit of confidences finite where words are all right
BINS = 10
BEAMS = (8, 16, 32, 64, 128, 256, 512)
_HAIR = 0.002  # word errors per word that a wider beam must save to be worth its cost

Judged = tuple[tuple[float, float, float, float], bool]  # a word's features, and whether it was right


@dataclass(frozen=True)
class Emission:
    """What the network said of an utterance, and what was said."""

    log_probs: np.ndarray  # (steps, tokens), as `Recognizer.emissions` gives them for the method that is to decode
    reference: str


def decode(recognizer: Recognizer, emission: Emission, options: DecoderOptions) -> Reading:
    """The best final reading of a whole utterance."""
    decoder = recognizer.make_decoder(options)
    decoder.accept(emission.log_probs)
    return decoder.finals()[0]


def word_errors(recognizer: Recognizer, emissions: Sequence[Emission], options: DecoderOptions) -> ErrorCount:
    """Word errors of all utterances together."""
    total = ErrorCount()
    for emission in emissions:
        total += count_word_errors(emission.reference, decode(recognizer, emission, options).text)
    return total


def tune_weights(
    recognizer: Recognizer,
    emissions: Sequence[Emission],
    start: DecoderOptions,
    report: Callable[[DecoderOptions, float], None],
) -> tuple[DecoderOptions, float]:
    """Search for the weights with the fewest word errors, one weight at a time, in ever smaller steps.

    Args:
        recognizer: with a language model.
        emissions: of the development set.
        start: where to begin; beam and other options stay as they are.
        report: told of every trial, with its word error rate.
    """
    weights = [name for name in _STEPS if name != "second_share" or recognizer.bundle.second_lm is not None]
    tried: dict[tuple[float, ...], float] = {}

    def rate(options: DecoderOptions) -> float:
        key = tuple(getattr(options, name) for name in weights)
        if key not in tried:
            tried[key] = word_errors(recognizer, emissions, options).rate
            report(options, tried[key])
        return tried[key]

    best, least = start, rate(start)
    steps = {name: _STEPS[name][0] for name in weights}
    while any(steps[name] >= _STEPS[name][1] for name in weights):
        before = least
        for name in weights:
            for sign in (1, -1):
                value = round(getattr(best, name) + sign * steps[name], 4)
                while _possible(name, value):
                    trial = replace(best, **{name: value})
                    if rate(trial) >= least:
                        break
                    best, least = trial, rate(trial)
                    value = round(value + sign * steps[name], 4)
        if least == before:
            steps = {name: step / 2 for name, step in steps.items()}
    return best, least


def _possible(name: str, value: float) -> bool:
    return not (name == "alpha" and value <= 0) and not (name == "second_share" and not 0 < value <= 1)


@dataclass(frozen=True)
class BeamTrial:
    """What a beam's width costs and brings."""

    beam: int
    rate: float  # word errors per word
    cpu_ms_per_s: float  # of audio


def try_beams(
    recognizer: Recognizer, emissions: Sequence[Emission], options: DecoderOptions, step_s: float
) -> list[BeamTrial]:
    """Word errors and cost at several widths."""
    audio_s = sum(len(emission.log_probs) for emission in emissions) * step_s
    decode(recognizer, emissions[0], options)  # what is compiled on first use is not counted
    trials = []
    for beam in BEAMS:
        started = time.process_time()
        rate = word_errors(recognizer, emissions, replace(options, beam=beam)).rate
        trials.append(BeamTrial(beam, rate, 1000 * (time.process_time() - started) / audio_s))
    return trials


def choose_beam(trials: Sequence[BeamTrial]) -> int:
    """The narrowest beam that is as good as the best one but for a hair."""
    least = min(trial.rate for trial in trials)
    return min(trial.beam for trial in trials if trial.rate <= least + _HAIR)


@dataclass(frozen=True)
class Reliability:
    """Of the words within a range of confidence, how sure they were and how many were right."""

    words: int
    confidence: float  # their mean
    right: float  # share of them


def judge_words(recognizer: Recognizer, emissions: Sequence[Emission], options: DecoderOptions) -> list[list[Judged]]:
    """For each utterance, the features of each word and whether it was right."""
    judged = []
    for emission in emissions:
        words = decode(recognizer, emission, options).words
        right = right_words(emission.reference.split(), [word.text for word in words])
        judged.append([(features(word.log_probs), one) for word, one in zip(words, right, strict=True)])
    return judged


def fit_confidence(judged: Sequence[Judged]) -> Calibration:
    """Logistic regression, by Newton's method."""
    if not judged or len({right for _, right in judged}) < 2:
        raise DataError("the development set has no words to fit confidences on, or all are right or all are wrong")
    x = np.array([row for row, _ in judged])
    y = np.array([right for _, right in judged], dtype=float)
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (y - p) / len(y) - _RIDGE * weights
        curvature = (x.T * (p * (1 - p))) @ x / len(y) + _RIDGE * np.eye(x.shape[1])
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    return Calibration(*(round(float(w), 4) for w in weights))


def reliability(judged: Sequence[Judged], calibration: Calibration) -> tuple[list[Reliability], float]:
    """Rows for the filled ranges of confidence, and the mean gap between confidence and truth (weighted by words)."""
    weights = np.array(calibration.weights)
    confidence = np.array([1 / (1 + np.exp(-np.array(row) @ weights)) for row, _ in judged])
    right = np.array([one for _, one in judged], dtype=float)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    rows = [
        Reliability(int((place == b).sum()), float(confidence[place == b].mean()), float(right[place == b].mean()))
        for b in range(BINS)
        if (place == b).any()
    ]
    gap = sum(row.words * abs(row.confidence - row.right) for row in rows) / len(judged)
    return rows, gap
