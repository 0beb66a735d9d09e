"""The interface of ctcdecode over our search."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_decoders import all_texts, random_log_probs

from asr.ctcdecode import CTCBeamDecoder, DecoderState, OnlineCTCBeamDecoder
from asr.errors import ConfigError, DataError

LABELS = ["a", " ", "_", "b"]


def batch(steps: int, count: int) -> torch.Tensor:
    return torch.tensor(np.exp(np.stack([random_log_probs(steps, 4, seed) for seed in range(count)])))


def test_shapes_and_scores_are_those_of_ctcdecode() -> None:
    """Results, scores, times and lengths have the documented shapes, and the best is the likeliest text."""
    probs = batch(5, 3)
    results, scores, times, lengths = CTCBeamDecoder(LABELS, beam_width=50, blank_id=2).decode(probs)
    assert results.shape == times.shape == (3, 50, 5)
    assert scores.shape == lengths.shape == (3, 50)
    for i in range(3):
        best = tuple(results[i, 0, : lengths[i, 0]].tolist())
        swapped = np.log(probs[i].numpy()[:, [2, 1, 0, 3]])  # the blank first, as all_texts has it
        texts = {tuple({1: 1, 2: 0, 3: 3}[t] for t in text): p for text, p in all_texts(swapped).items()}
        assert math.exp(-scores[i, 0]) == pytest.approx(max(texts.values()), rel=1e-5)
        assert texts[best] == pytest.approx(max(texts.values()))
        assert sorted(scores[i].tolist()) == scores[i].tolist()
        assert (np.diff(times[i, 0, : lengths[i, 0]]) > 0).all()


def test_lengths_cut_off_the_padding() -> None:
    """What lies beyond an utterance's length has no part in its result."""
    probs = batch(8, 2)
    decoder = CTCBeamDecoder(LABELS, beam_width=10, blank_id=2)
    short = decoder.decode(probs[:, :5])
    padded = decoder.decode(probs, torch.tensor([5, 5]))
    assert torch.equal(short[1], padded[1])
    assert torch.equal(short[3], padded[3])


def test_streams_give_what_the_whole_gives() -> None:
    """Chunk by chunk with a state, the last result equals that of the whole utterance."""
    probs = batch(40, 2)
    whole = CTCBeamDecoder(LABELS, beam_width=10, blank_id=2).decode(probs)
    decoder = OnlineCTCBeamDecoder(LABELS, beam_width=10, blank_id=2)
    states = [DecoderState(decoder), DecoderState(decoder)]
    for begin in range(0, 40, 8):
        results, scores, _, lengths = decoder.decode(probs[:, begin : begin + 8], states, [begin == 32] * 2)
        assert results.shape[2] == lengths.max()
    assert torch.equal(scores, whole[1])
    for i in range(2):
        assert torch.equal(results[i, 0, : lengths[i, 0]], whole[0][i, 0, : whole[3][i, 0]])


def test_a_language_model_is_read_from_an_arpa_file(tmp_path) -> None:
    """Labels in capitals and an ARPA file, as its users have them: the model decides between two equal sounds."""
    from test_lm import ARPA

    (tmp_path / "lm.arpa").write_text(ARPA)
    labels = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", " ", "_"]
    rows = np.full((12, 28), 1e-3)
    for step, letter in enumerate("HEL_LO WORLD"):
        rows[step, labels.index(letter)] = 1.0
    rows[10, labels.index("N")] = 1.1
    probs = torch.tensor(rows / rows.sum(axis=1, keepdims=True))[None]

    def text(decoder: CTCBeamDecoder) -> str:
        results, _, _, lengths = decoder.decode(probs)
        return "".join(labels[i] for i in results[0, 0, : lengths[0, 0]])

    with_lm = CTCBeamDecoder(labels, tmp_path / "lm.arpa", alpha=1.0, beam_width=20, blank_id=27)
    assert text(with_lm) == "HELLO WORLD"
    assert with_lm.max_order() == 3
    assert text(CTCBeamDecoder(labels, beam_width=20, blank_id=27)) == "HELLO WORND"


def test_pruning_of_labels() -> None:
    """With one label a step the search follows the likeliest path; with all it sums."""
    probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]])
    assert CTCBeamDecoder(["_", "a"], cutoff_top_n=1).decode(probs)[3][0, 0] == 0
    assert CTCBeamDecoder(["_", "a"], cutoff_prob=0.5).decode(probs)[3][0, 0] == 0
    assert CTCBeamDecoder(["_", "a"]).decode(probs)[3][0, 0] == 1


def test_wrong_input_is_an_error() -> None:
    """Shapes that do not fit and files that are missing are named."""
    decoder = CTCBeamDecoder(LABELS, blank_id=2)
    with pytest.raises(DataError, match="batch, steps, 4"):
        decoder.decode(torch.zeros(2, 5, 3))
    with pytest.raises(DataError, match="seq_lens"):
        decoder.decode(batch(5, 2), torch.tensor([5]))
    with pytest.raises(DataError, match="not numbers"):
        decoder.decode(torch.full((1, 2, 4), math.nan))
    with pytest.raises(ConfigError, match="blank_id"):
        CTCBeamDecoder(LABELS, blank_id=4)
    with pytest.raises(DataError, match="cannot read"):
        CTCBeamDecoder(LABELS, model_path="nowhere.arpa")
