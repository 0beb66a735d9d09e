"""Tuning: the weights with the fewest errors, and confidences that mean what they say."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from asr.cli.main import main

import asr
from asr.errors import DataError
from asr.text.score import count_word_errors, right_words
from asr.tune import BeamTrial, Emission, choose_beam, fit_confidence, reliability, tune_weights, word_errors

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def emissions(recognizer, clips) -> list[Emission]:
    return [Emission(recognizer.emissions(clip.samples), clip.text) for clip in clips]


def test_emissions_are_what_a_stream_decodes(recognizer, clips, emissions) -> None:
    """Decoded apart, they give the text that the stream gives."""
    for clip, emission in zip(clips, emissions, strict=True):
        decoder = recognizer.make_decoder()
        decoder.accept(emission.log_probs)
        stream = recognizer.stream(16_000, rules=(), written=False)
        assert [e.text for e in [*stream.accept(clip.samples), *stream.finish()]][-1] == decoder.finals()[0].text


def test_tuning_finds_fewer_errors(recognizer, emissions) -> None:
    """From weights that are far off, it comes to ones with fewer errors, and tells the rate they have."""
    start = replace(recognizer.bundle.decoding, alpha=0.02, beta=-3.0, beam=8)
    best, rate = tune_weights(recognizer, emissions, start, lambda *_: None)
    assert rate == word_errors(recognizer, emissions, best).rate
    assert rate < word_errors(recognizer, emissions, start).rate


def test_fitted_confidences_are_shares_of_right_words() -> None:
    """Where words are right as often as a curve says, the fit finds it: the mean gap is small."""
    rng = np.random.default_rng(0)
    judged = []
    for _ in range(4_000):
        mean = -rng.exponential(1.0)
        probability = 1 / (1 + np.exp(-(2.0 + 1.5 * mean)))
        judged.append(((1.0, mean, mean, 5.0), bool(rng.random() < probability)))
    _, gap = reliability(judged[2_000:], fit_confidence(judged[:2_000]))
    _, before = reliability(judged[2_000:], asr.search.words.Calibration())
    assert gap < 0.03 < before
    with pytest.raises(DataError, match="development set"):
        fit_confidence([])


def test_the_narrowest_good_beam_is_chosen() -> None:
    """A wider beam must save more than a hair of errors."""
    trials = [
        BeamTrial(8, 0.30, 0.1),
        BeamTrial(16, 0.2510, 0.2),
        BeamTrial(32, 0.2495, 0.4),
        BeamTrial(64, 0.2500, 0.8),
    ]
    assert choose_beam(trials) == 16


def test_words_are_judged_at_their_place() -> None:
    """A word counts as right where the cheapest alignment puts it on the same word of the reference."""
    reference, hypothesis = "the cat sat on the mat", "a cat sat on on the mat"
    right = right_words(reference.split(), hypothesis.split())
    assert right[:3] + right[5:] == [False, True, True, True, True]
    assert sorted(right[3:5]) == [False, True]
    assert count_word_errors(reference, hypothesis).errors == 2


def test_the_shipped_model_stays_as_it_is(tmp_path, capsys) -> None:
    """`asr tune english` says to tune a copy, before any work."""
    assert main(["tune", "english", str(tmp_path / "none.jsonl")]) == 1
    assert "tune a copy of" in capsys.readouterr().err


def test_the_command_writes_what_it_finds(tmp_path, recognizer, capsys) -> None:
    """`asr tune` leaves the model loadable with the new weights; with --dry-run it changes nothing."""
    model = tmp_path / "model"
    shutil.copytree(recognizer.bundle.path, model)
    shutil.copy(DATA / "transcripts.jsonl", tmp_path / "clips.jsonl")
    import tarfile

    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for path in sorted(DATA.glob("*.opus")):
            tar.add(path, path.name)
    before = (model / "model.toml").read_bytes()
    arguments = ["tune", str(model), str(tmp_path / "clips.jsonl"), "--beam", "4", "--cache", str(tmp_path)]
    assert main([*arguments, "--dry-run"]) == 0
    assert (model / "model.toml").read_bytes() == before
    assert main(arguments) == 0
    assert "mean gap" in capsys.readouterr().out
    assert tomllib.loads((model / "model.toml").read_text())["decoding"]["beam"] == 4
    assert asr.load(model).bundle.decoding.beam == 4
    (model / "lm.safetensors").unlink()
    assert main(arguments) == 1
    assert "or take this file away" in capsys.readouterr().err
    (model / "punctuation.safetensors").unlink()
    assert main(arguments) == 1
    assert "asr lm build" in capsys.readouterr().err
