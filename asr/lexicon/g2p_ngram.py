"""N-grams of graphones: the compact table of `g2p`, and the search for a word's likeliest pronunciations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.compiler import jit
from asr.lm.table import NgramTable

MOST_PHONEMES = 2  # of a graphone


class NgramArrays(NamedTuple):
    """A back-off n-gram model over at most 256 graphones, as compiled code sees it.

    A trie: node g is the graphone g, then come all n-grams of two graphones, and so on, the children of a node (its
    continuations) side by side and sorted by graphone. 0, 1 and 2 are unknown, a word's beginning and its end.
    """

    graphone: np.ndarray  # uint8 (n-grams,): the last of an n-gram
    prob: np.ndarray  # uint8 (n-grams,): code of its log probability
    backoff: np.ndarray  # uint8 (n-grams but the longest,): code of its back-off weight
    first: np.ndarray  # uint32 (n-grams but the longest, + 1): where an n-gram's children begin
    starts: np.ndarray  # int64 (order + 1,): where the n-grams of each length begin
    prob_codes: np.ndarray  # float32 (order, 256)
    backoff_codes: np.ndarray  # float32 (order, 256)


def pack_ngrams(table: NgramTable) -> NgramArrays:
    """Pack a model. Log probabilities are rounded to 256 even steps for each length."""
    order = len(table.orders)
    starts = np.concatenate([[0], np.cumsum(table.counts)]).astype(np.int64)
    prob_codes, backoff_codes = (np.zeros((order, 256), dtype=np.float32) for _ in range(2))
    prob, backoff, first = [], [], []
    for k, level in enumerate(table.orders):
        values, prob_codes[k] = _round(np.maximum(level.log_prob, -25.0))
        prob.append(values)
        if k < order - 1:
            values, backoff_codes[k] = _round(level.backoff)
            backoff.append(values)
            children = np.bincount(table.orders[k + 1].context, minlength=len(level))
            first.append(starts[k + 1] + np.concatenate([[0], np.cumsum(children)[:-1]]))
    first.append(np.array([starts[-1]]))
    return NgramArrays(
        np.concatenate([level.word for level in table.orders]).astype(np.uint8),
        np.concatenate(prob),
        np.concatenate([*backoff, np.zeros(0, dtype=np.uint8)]),
        np.concatenate(first).astype(np.uint32),
        starts,
        prob_codes,
        backoff_codes,
    )


def packed_bytes(counts: tuple[int, ...]) -> int:
    """Bytes that a model takes with so many n-grams of each length."""
    return 2 * sum(counts) + 5 * sum(counts[:-1]) + 2048 * len(counts)


def fits_together(ngrams: NgramArrays) -> bool:
    """Whether compiled code, which checks nothing, stays within the arrays."""
    order, grams = len(ngrams.starts) - 1, len(ngrams.graphone)
    if order < 2 or ngrams.starts[0] != 0 or ngrams.starts[-1] != grams:
        return False
    below = int(ngrams.starts[-2])
    return (
        bool((np.diff(ngrams.starts) >= 0).all())
        and len(ngrams.prob) == grams
        and len(ngrams.backoff) == below
        and len(ngrams.first) == below + 1
        and int(ngrams.first[-1]) <= grams
        and bool((np.diff(ngrams.first.astype(np.int64)) >= 0).all())
        and ngrams.prob_codes.shape == ngrams.backoff_codes.shape == (order, 256)
    )


def _round(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    step = (high - low) / 255 or 1.0
    return np.round((values - low) / step).astype(np.uint8), (low + step * np.arange(256)).astype(np.float32)


@jit()
def _continuation(ngrams: NgramArrays, node: int, graphone: int) -> Any:
    if node >= len(ngrams.first) - 1:
        return -1
    low, high = np.int64(ngrams.first[node]), np.int64(ngrams.first[node + 1])
    end = high
    while low < high:
        middle = (low + high) >> 1
        if ngrams.graphone[middle] < graphone:
            low = middle + 1
        else:
            high = middle
    if low < end and ngrams.graphone[low] == graphone:
        return low
    return -1


@jit()
def score_graphone(ngrams: NgramArrays, history: np.ndarray, graphone: int) -> Any:
    """Natural log of P(graphone | history); of the history, oldest first, -1 are places not filled yet."""
    total = 0.0
    for begin in range(len(history)):
        if history[begin] < 0:
            continue
        node = np.int64(history[begin])
        for i in range(begin + 1, len(history)):
            node = _continuation(ngrams, node, history[i])
            if node < 0:
                break
        if node < 0:
            continue  # a context never seen has no weight to pay
        found = _continuation(ngrams, node, graphone)
        level = len(history) - begin
        if found >= 0:
            return total + ngrams.prob_codes[level, ngrams.prob[found]]
        if node < len(ngrams.backoff):
            total += ngrams.backoff_codes[level - 1, ngrams.backoff[node]]
    return total + ngrams.prob_codes[0, ngrams.prob[graphone]]


@jit()
def search(
    ngrams: NgramArrays,
    emissions: np.ndarray,
    letters: np.ndarray,
    first: np.ndarray,
    graphones: np.ndarray,
    phonemes: np.ndarray,
    weight: float,
    beam: int,
) -> Any:
    """The likeliest pronunciations of a word, by beam search over its letters.

    A hypothesis is the last graphones and the phonemes so far; ways to get to the same one are added up.

    Args:
        ngrams: the model of which graphones follow which.
        emissions: float (letters, graphones), what else is to be added for a graphone at a letter.
        letters: (n,), the word.
        first: (alphabet + 1,), where in ``graphones`` a letter's begin.
        graphones: all graphones, by letter.
        phonemes: uint8 (graphones, 2), a graphone's phonemes, 0 for none.
        weight: of the n-grams' log probabilities.
        beam: hypotheses kept.

    Returns:
        Scores (found,), numbers of phonemes (found,), phonemes (found, longest).
    """
    memory = len(ngrams.starts) - 2
    longest = MOST_PHONEMES * len(letters)
    widest = 1
    for letter in letters:
        widest = max(widest, first[letter + 1] - first[letter])
    histories = np.full((beam, memory), -1, dtype=np.int32)
    histories[0, memory - 1] = 1
    said = np.zeros((beam, longest), dtype=np.uint8)
    lengths = np.zeros(beam, dtype=np.int64)
    hashes = np.zeros(beam, dtype=np.int64)
    scores = np.zeros(beam)
    live = 1
    new_scores = np.empty(beam * widest)
    new_hashes = np.empty(beam * widest, dtype=np.int64)
    new_from = np.empty(beam * widest, dtype=np.int32)
    new_graphone = np.empty(beam * widest, dtype=np.int32)
    next_histories, next_said, next_lengths = histories.copy(), said.copy(), lengths.copy()
    next_hashes, next_scores = hashes.copy(), scores.copy()
    for at in range(len(letters)):
        letter = letters[at]
        count = 0
        for hypothesis in range(live):
            for i in range(first[letter], first[letter + 1]):
                graphone = graphones[i]
                known = score_graphone(ngrams, histories[hypothesis], graphone)
                new_scores[count] = scores[hypothesis] + weight * known + emissions[at, graphone]
                told = hashes[hypothesis]
                for phoneme in phonemes[graphone]:
                    if phoneme:
                        told = told * 1_000_003 + phoneme
                new_hashes[count] = told
                new_from[count] = hypothesis
                new_graphone[count] = graphone
                count += 1
        kept = 0
        for candidate in np.argsort(-new_scores[:count]):
            origin, graphone = new_from[candidate], new_graphone[candidate]
            same = -1
            for other in range(kept):
                if next_hashes[other] == new_hashes[candidate] and next_histories[other, memory - 1] == graphone:
                    same = other
                    for k in range(memory - 1):
                        if next_histories[other, k] != histories[origin, k + 1]:
                            same = -1
                            break
                    if same >= 0:
                        break
            if same >= 0:
                next_scores[same] = np.logaddexp(next_scores[same], new_scores[candidate])
                continue
            if kept == beam:
                break
            next_histories[kept, : memory - 1] = histories[origin, 1:]
            next_histories[kept, memory - 1] = graphone
            next_said[kept] = said[origin]
            length = lengths[origin]
            for phoneme in phonemes[graphone]:
                if phoneme:
                    next_said[kept, length] = phoneme
                    length += 1
            next_lengths[kept] = length
            next_hashes[kept] = new_hashes[candidate]
            next_scores[kept] = new_scores[candidate]
            kept += 1
        live = kept
        histories, next_histories = next_histories, histories
        said, next_said = next_said, said
        lengths, next_lengths = next_lengths, lengths
        hashes, next_hashes = next_hashes, hashes
        scores, next_scores = next_scores, scores
    kept = 0
    for hypothesis in range(live):  # in place: what is kept never overtakes what is read
        score = scores[hypothesis] + weight * score_graphone(ngrams, histories[hypothesis], 2)
        same = -1
        for other in range(kept):
            if hashes[other] == hashes[hypothesis]:
                same = other
                break
        if same >= 0:
            scores[same] = np.logaddexp(scores[same], score)
            continue
        said[kept] = said[hypothesis]
        lengths[kept] = lengths[hypothesis]
        hashes[kept] = hashes[hypothesis]
        scores[kept] = score
        kept += 1
    return scores[:kept], lengths[:kept], said[:kept]
