"""Training on the tests' own speech: it learns, it resumes, it scores, and it says what is wrong."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from asr.cli.train import _MALLOC
from audio_files import write_audio

import asr
from asr.errors import ConfigError, DataError, ModelError
from asr.lexicon.lexicon import write_lexicon
from asr.network.features import FeatureOptions
from asr.network.weights import widened
from asr.search.decoder import DecoderOptions
from asr.text.tokens import Tokenizer
from asr.train.augment import Augmenter, AugmentOptions
from asr.train.batches import plan_epoch
from asr.train.cmudict import load_cmudict
from asr.train.codec import through_mp3
from asr.train.config import Config, find_paths, load_config
from asr.train.corpus import SampleCache, read_corpus
from asr.train.corpus_names import named_corpora
from asr.train.four_bits import rounded_rows
from asr.train.teacher import MISSING, distance, rows_of_line
from asr.train.trainer import Trainer, train

DATA = Path(__file__).parent / "data"
CONFIG = """
[data]
train = ["clips.jsonl"]
dev = ["clips.jsonl"]
noise = ["noise.tar"]
rooms = ["noise.tar"]
[model]
cell = "{cell}"
layers = 1
blocks = 1
width = 32
conv_width = 16
lookahead_ms = 60
[training]
steps = {steps}
batch_s = 12.0
min_lines = 2
warmup_steps = 4
check_every = 1000
checkpoint_minutes = 0.0
sorted_epochs = 1
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A corpus of the five clips as a manifest and a shard, and one clip of noise."""
    (tmp_path / "clips.jsonl").write_text((DATA / "transcripts.jsonl").read_text())
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for path in sorted(DATA.glob("*.opus")):
            tar.add(path, path.name)
    with tarfile.open(tmp_path / "noise.tar", "w") as tar:
        tar.add(sorted(DATA.glob("*.opus"))[0], "noise.opus")
    return tmp_path


def write_config(folder: Path, steps: int, cell: str = "lstm") -> Path:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(steps=steps, cell=cell))
    return path


def losses(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_trained_model_can_be_loaded(folder, cell, clips) -> None:
    """A few steps with each cell write a model folder that recognises without error."""
    train(load_config(write_config(folder, 3, cell)), folder, folder / "run", "cpu")
    recognizer = asr.load(folder / "run" / "model")
    assert recognizer.bundle.shape.cell == cell
    recognizer.transcribe(clips[0].path)


def test_training_lowers_the_loss(folder) -> None:
    """Forty steps on five utterances take the loss well down."""
    config = load_config(write_config(folder, 40))
    trainer = Trainer(config, folder, folder / "run", "cpu")
    batch = next(iter(trainer._batches()))
    first = trainer._train_step(batch)
    trainer.run()
    assert trainer._train_step(batch) < 0.7 * first


def test_the_native_kernels_train_alike(folder) -> None:
    """The first step's loss is PyTorch's to bfloat16's precision, and a run with them goes well down, too."""
    config = load_config(write_config(folder, 40))
    fast = dataclasses.replace(config, training=dataclasses.replace(config.training, kernels="native"))
    try:
        trainer = Trainer(fast, folder, folder / "fast", "cpu")
    except ConfigError as error:
        pytest.skip(str(error))
    batch = next(iter(trainer._batches()))
    first = trainer._train_step(batch)
    assert first == pytest.approx(Trainer(config, folder, folder / "usual", "cpu")._train_step(batch), rel=0.02)
    trainer.run()
    assert trainer._train_step(batch) < 0.7 * first


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_an_interrupted_run_goes_on_to_the_same_weights(folder, optimiser) -> None:
    """Six steps, and three and then three more, end with the same weights, bit for bit."""
    path = write_config(folder, 6)
    path.write_text(path.read_text() + f'optimiser = "{optimiser}"\n')
    config = load_config(path)
    train(config, folder, folder / "whole", "cpu")
    first = Trainer(config, folder, folder / "parts", "cpu")
    for batch, _ in zip(first._batches(), range(3), strict=False):
        first._train_step(batch)
        first.step, first.batch = first.step + 1, first.batch + 1
    first._save_checkpoint()
    train(config, folder, folder / "parts", "cpu")
    whole, parts = (torch.load(folder / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 6
    for name, value in whole["model"].items():
        assert torch.equal(value, parts["model"][name]), name
    for name, value in whole["average"].items():
        assert torch.equal(value, parts["average"][name]), name


def test_a_finished_run_stays_as_it_is(folder, capsys) -> None:
    """The command of a run that is done says so, and changes neither its model nor its log."""
    config = load_config(write_config(folder, 2))
    train(config, folder, folder / "run", "cpu")
    kept = [folder / "run" / name for name in ("model/weights.safetensors", "log.jsonl", "checkpoint.pt")]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in kept]
    train(config, folder, folder / "run", "cpu")
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in kept] == before
    assert "this run is finished" in capsys.readouterr().out


def test_a_run_can_start_from_a_model(folder) -> None:
    """With ``start``, the first weights are those of the model folder; another shape is refused."""
    path = write_config(folder, 2)
    train(load_config(path), folder, folder / "first", "cpu")
    path.write_text(path.read_text() + 'start = "first/model"\n')
    second = Trainer(load_config(path), folder, folder / "second", "cpu")
    weights = asr.load(folder / "first" / "model").bundle.weights
    assert all(np.array_equal(second.model.arrays()[name], value) for name, value in widened(weights).items())
    path.write_text(path.read_text().replace("width = 32", "width = 16"))
    with pytest.raises(ConfigError, match="use its own"):
        Trainer(load_config(path), folder, folder / "third", "cpu")


def with_pieces(path: Path, pieces: list[str]) -> Path:
    """The configuration with a second output, of letters and these pieces of words."""
    letters = Tokenizer.english_characters().tokens
    Tokenizer([*letters, *pieces]).save(path.parent / "pieces.txt")
    path.write_text(path.read_text().replace("[data]", '[data]\npieces = "pieces.txt"'))
    return path


@pytest.mark.parametrize("kernels", ["torch", "native"])
def test_a_second_output_learns_word_pieces(folder, kernels, clips) -> None:
    """With word pieces the loss of both outputs goes well down; greedy decoding reads the pieces, the beam letters."""
    path = with_pieces(write_config(folder, 40), ["the", "th", "er", "and", "in"])
    path.write_text(path.read_text() + f'kernels = "{kernels}"\n')
    config = load_config(path)

    def share(pieces: float) -> Config:
        return dataclasses.replace(config, training=dataclasses.replace(config.training, piece_weight=pieces))

    try:
        trainer = Trainer(config, folder, folder / "run", "cpu")
    except ConfigError as error:
        pytest.skip(str(error))
    batch = next(iter(trainer._batches()))

    def losses_apart() -> list[float]:
        apart = [Trainer(share(weight), folder, folder / "apart", "cpu") for weight in (0.0, 1.0)]
        for other in apart:
            other.model.load_state_dict(trainer.model.state_dict())
        return [other._train_step(batch) for other in apart]

    before = losses_apart()
    trainer.run()
    assert all(now < 0.8 * then for now, then in zip(losses_apart(), before, strict=True))
    recognizer = asr.load(folder / "run" / "model")
    assert recognizer.bundle.shape.pieces == 34
    for method, tokens in (("greedy", 34), ("beam", 29)):
        decoding = DecoderOptions(method=method)
        stream = recognizer.stream(16_000, decoding=decoding, rules=())
        events = [*stream.accept(clips[0].samples), *stream.finish()]
        emissions = recognizer.emissions(clips[0].samples, method)
        assert emissions.shape[1] == tokens
        decoder = recognizer.make_decoder(decoding)
        decoder.accept(emissions)
        assert " ".join(event.text for event in events[-1:]) == decoder.finals()[0].text


def test_pieces_can_be_added_to_a_model_and_dropped(folder) -> None:
    """A run may start from a model without pieces or with others: letters are taken over, new pieces begin as one."""
    path = write_config(folder, 2)
    train(load_config(path), folder, folder / "plain", "cpu")
    plain = torch.from_numpy(widened(asr.load(folder / "plain" / "model").bundle.weights)["output.weight"])
    path.write_text(path.read_text() + 'start = "plain/model"\n')
    config = load_config(with_pieces(path, ["the", "in"]))
    added = Trainer(config, folder, folder / "added", "cpu")
    weight = added.model.state_dict()["output.weight"]
    letters = list(Tokenizer.english_characters().tokens)
    assert torch.equal(weight[:29], plain)
    assert torch.equal(weight[29 + 29], plain[letters.index("e")])
    added.run()
    path.write_text(path.read_text().replace("plain/model", "added/model").replace("pieces =", "# pieces ="))
    dropped = Trainer(load_config(path), folder, folder / "dropped", "cpu").model.state_dict()["output.weight"]
    kept = widened(asr.load(folder / "added" / "model").bundle.weights)["output.weight"][:29]
    assert np.array_equal(dropped.numpy(), kept)
    (folder / "added" / "model" / "pieces.txt").unlink()
    with pytest.raises(ModelError, match=r"pieces\.txt"):
        asr.load(folder / "added" / "model")


def test_recurrent_layers_can_begin_to_take_two_steps_as_one(folder, clips) -> None:
    """A run with stacked = 2 goes on from a model without: outputs are as they were, twice; what it makes
    recognises, and another run goes on from it with the same outputs only."""
    path = with_pieces(write_config(folder, 2), ["the", "in"])
    train(load_config(path), folder, folder / "single", "cpu")
    path.write_text(path.read_text().replace("[model]", "[model]\nstacked = 2") + 'start = "single/model"\n')
    trainer = Trainer(load_config(path), folder, folder / "double", "cpu")
    single = widened(asr.load(folder / "single" / "model").bundle.weights)["output.weight"]
    begun = trainer.model.arrays()["output.weight"]
    assert np.array_equal(begun, np.concatenate([single[:29], single[:29], single[29:], single[29:]]))
    trainer.run()
    recognizer = asr.load(folder / "double" / "model")
    assert recognizer.bundle.shape.stacked == 2
    stream = recognizer.stream(16_000)
    stream.accept(clips[0].samples)
    stream.finish()
    path.write_text(path.read_text().replace("single/model", "double/model"))
    again = Trainer(load_config(path), folder, folder / "again", "cpu")
    kept = widened(recognizer.bundle.weights)["output.weight"]
    assert np.array_equal(again.model.arrays()["output.weight"], kept)
    path.write_text(path.read_text().replace("pieces =", "# pieces ="))
    with pytest.raises(ConfigError, match="only its own tokens"):
        Trainer(load_config(path), folder, folder / "dropped", "cpu")


def test_weights_of_four_bits_are_learned(folder, clips) -> None:
    """With four_bits a run lowers the loss that the rounded weights have, goes on training those that are not rounded,
    and writes a model whose layers have sixteen weights, times a scale for each row."""
    path = write_config(folder, 40)
    path.write_text(path.read_text() + "four_bits = true\naverage_decay = 0.9\n")
    trainer = Trainer(load_config(path), folder, folder / "run", "cpu")
    batch = next(iter(trainer._batches()))
    first = trainer._train_step(batch)
    trainer.run()
    assert trainer._train_step(batch) < 0.7 * first
    own = trainer.model.cells[0].weight_hh_l0.detach()
    assert len(own.unique()) > 1000
    recognizer = asr.load(folder / "run" / "model")
    weights = recognizer.bundle.weights
    layers = [weights["blocks.0.weight"], weights["cells.0.weight_ih_l0"], weights["cells.0.weight_hh_l0"]]
    assert all(matrix.dtype == np.int8 and len(np.unique(matrix)) <= 16 for matrix in layers)
    assert np.abs(widened(weights)["cells.0.weight_hh_l0"] - own.numpy()).mean() < 0.2 * own.abs().mean()
    recognizer.transcribe(clips[0].path)


def test_rounding_to_four_bits_errs_least() -> None:
    """Of weights that are normally distributed an error of a hundredth of their square is left, and no level between
    two others would have been nearer by more than a step of a byte."""
    values = torch.randn(8, 4096, generator=torch.Generator().manual_seed(1)) * 0.03
    levels, unit = rounded_rows(values)
    assert float((levels * unit - values).square().mean() / values.square().mean()) == pytest.approx(0.0095, rel=0.05)
    nearest = (levels.unique()[None, None] * unit[:, :, None] - values[:, :, None]).abs().amin(dim=2)
    assert bool(((levels * unit - values).abs() <= nearest + unit).all())


@pytest.mark.parametrize("pieces", [False, True])
def test_a_network_stays_near_what_it_was(folder, pieces) -> None:
    """With stay, a network that begins with another's weights is nearly as far from it as 8 bits are; one whose weights
    were disturbed is far, and training brings it back. A model of other pieces cannot say where to stay."""
    path = write_config(folder, 30)
    if pieces:
        with_pieces(path, ["the", "in"])
    train(load_config(path), folder, folder / "first", "cpu")
    path.write_text(path.read_text() + 'start = "first/model"\nstay = 1.0\n')
    trainer = Trainer(load_config(path), folder, folder / "second", "cpu")
    batch = next(iter(trainer._batches()))
    trainer._train_step(batch)
    near = trainer.former_distance
    with torch.no_grad():
        trainer.model.cells[0].weight_hh_l0.mul_(-1)
        trainer.model.blocks[0].weight.mul_(-1)
    trainer._train_step(batch)
    far = trainer.former_distance
    assert near < 0.2 * far
    trainer.run()
    trainer._train_step(batch)
    assert trainer.former_distance < 0.5 * far
    assert losses(folder / "second")[-1]["step"] == 30
    path.write_text(path.read_text().replace('pieces = "pieces.txt"', ""))
    with pytest.raises(ConfigError, match="other tokens or pieces"):
        Trainer(load_config(with_pieces(path, ["zorp"])), folder, folder / "third", "cpu")


def test_pieces_of_a_model_of_phonemes_are_kept(folder) -> None:
    """From the shipped model, pieces that it has begin as they are, others as the letter that they end with; letters in
    place of its phonemes begin afresh."""
    shipped = asr.load().bundle
    names = ("layers", "blocks", "width", "conv_width", "lookahead_ms")
    shape = {name: getattr(shipped.shape, name) for name in names}
    table = "[model]\n" + "".join(f"{key} = {value}\n" for key, value in shape.items())
    path = with_pieces(write_config(folder, 1), ["the", "zorp"])
    head, _, tail = path.read_text().partition("[model]")
    path.write_text(f'{head}{table}[training]{tail.partition("[training]")[2]}start = "{shipped.path}"\n')
    weight = Trainer(load_config(path), folder, folder / "run", "cpu").model.output.weight
    first, own = torch.from_numpy(widened(shipped.weights)["output.weight"]).split(
        [len(shipped.tokenizer), shipped.shape.pieces]
    )
    assert shipped.pieces is not None
    pieces = list(shipped.pieces.tokens)
    assert torch.equal(weight[29 : 29 + 29], own[:29])
    assert torch.equal(weight[29 + 29], own[pieces.index("the")])
    assert torch.equal(weight[29 + 30], own[pieces.index("p")])
    assert not any(torch.equal(row, before) for row in weight[1:29] for before in first)


def write_teacher(folder: Path, dimensions: int = 3) -> Path:
    """A teacher whose features are a line that rises through each utterance, and none for the last."""
    utterances = read_corpus(folder / "clips.jsonl")
    cache = SampleCache(folder / "clips.jsonl", utterances, 16_000, folder / ".cache")
    rows = [np.linspace(-64, 64, cache.length(i) // 480).round() for i in range(len(utterances))]
    rows[-1] = rows[-1][:0]
    (folder / "teacher").mkdir()
    np.concatenate(rows).astype(np.int8).repeat(dimensions).tofile(folder / "teacher" / "clips.i8")
    np.save(folder / "teacher" / "clips.ends.npy", np.cumsum([len(part) for part in rows]))
    path = write_config(folder, 60)
    teacher = f'[teacher]\nfolder = "{folder}/teacher"\ndimensions = {dimensions}\nlayer = 1\nweight = 3.0\n'
    path.write_text(teacher + path.read_text())
    return path


def test_the_network_learns_what_a_teacher_heard(folder) -> None:
    """With a teacher the error of its predicted features falls, and an interrupted run keeps what predicts them."""
    config = load_config(write_teacher(folder))
    trainer = Trainer(config, folder, folder / "run", "cpu")
    trainer._train_step(next(iter(trainer._batches())))
    first = trainer.teacher_error
    trainer.run()
    assert trainer.teacher_error < 0.7 * first
    again = Trainer(config, folder, folder / "run", "cpu")
    assert again.student is not None
    assert trainer.student is not None
    assert torch.equal(again.student.output.weight, trainer.student.output.weight)
    asr.load(folder / "run" / "model")
    made = tomllib.loads((folder / "run" / "model" / "training.toml").read_text())
    assert made["teacher"]["folder"] == "teacher"


def test_features_follow_a_changed_tempo() -> None:
    """A step has the features of the same moment of the utterance, at any tempo, and none where there are none."""
    rows = np.arange(100, dtype=np.int8)[:, None]
    slow = rows_of_line([(rows, 330), (rows[:0], 30), (rows, 270)], 3)[:, 0]
    assert abs(slow[:110] - torch.arange(110) / 1.1).max() <= 1
    assert torch.all(slow[110:120] == MISSING)
    assert abs(slow[120:] - torch.arange(90) / 0.9).max() <= 1


def test_a_prediction_is_compared_with_the_step_it_speaks_of() -> None:
    """Predictions that come two steps late and are right have no error; missing steps do not count."""
    rows = torch.randint(-100, 100, (2, 20, 4), dtype=torch.int8)
    predicted = torch.zeros(2, 25, 4)
    predicted[:, 2:22] = rows.float() / 32
    assert distance(predicted, rows, 2) == 0
    assert distance(predicted, rows, 1) > 0.1
    rows[:, 5:] = MISSING
    predicted[:, 7:] = 99
    assert distance(predicted, rows, 2) == 0
    assert distance(predicted, torch.full_like(rows, MISSING), 2) == 0


@pytest.mark.parametrize("slip", ["missing", "dimensions", "utterances"])
def test_features_that_do_not_fit_their_corpus(folder, slip) -> None:
    """Features that are missing or of another shape are one error that says what to do."""
    path = write_teacher(folder)
    if slip == "missing":
        (folder / "teacher" / "clips.i8").unlink()
    elif slip == "dimensions":
        path.write_text(path.read_text().replace("dimensions = 3", "dimensions = 4"))
    else:
        np.save(folder / "teacher" / "clips.ends.npy", np.zeros(2, np.int64))
    with pytest.raises(DataError, match=r"make (them|it again)"):
        Trainer(load_config(path), folder, folder / "run", "cpu")


def test_an_epoch_holds_every_utterance_once() -> None:
    """Joined or not, sorted or not, each utterance is in exactly one batch, and batches keep their size."""
    seconds = np.random.default_rng(0).uniform(0.3, 12, 500)
    for by_length in (True, False):
        batches = plan_epoch(seconds, range(500), 60.0, 4, 1, 0, by_length, 0.5, 15.0)
        assert sorted(i for batch in batches for line in batch for i in line) == list(range(500))
        for batch in batches:
            longest = max(seconds[line].sum() for line in map(np.array, batch))
            assert len(batch) <= 4 or longest * len(batch) <= 60.0 * 1.3


def test_batches_of_one_step_are_of_like_length() -> None:
    """Processes that take a step together have batches of about the same length, and none is always left out."""
    seconds = np.random.default_rng(0).uniform(0.3, 12, 501)
    left_out = set()
    for epoch in range(4):
        batches = plan_epoch(seconds, range(501), 60.0, 4, 1, epoch, False, 0.1, 15.0, processes=3)
        assert sorted(i for batch in batches for line in batch for i in line) == list(range(501))
        lengths = [max(seconds[line].sum() for line in map(np.array, batch)) for batch in batches]
        even = len(lengths) - len(lengths) % 3
        spread = [np.ptp(lengths[i : i + 3]) for i in range(0, even, 3)]
        other = [np.ptp(lengths[i : i + 3]) for i in range(1, even - 3, 3)]
        assert np.mean(spread) < 0.4 * np.mean(other)
        left_out |= {round(length, 3) for length in lengths[even:]}
    assert len(left_out) != 1


def test_augmentation_is_repeatable_and_changes_the_audio(clips) -> None:
    """The same generator gives the same frames, another one others; nothing is ever not finite."""
    features = FeatureOptions()
    strong = AugmentOptions(noise=1.0, room=1.0, narrowband=1.0, mp3=1.0, hiss=1.0)
    augmenter = Augmenter(strong, features, noises=[clips[1].samples], rooms=[clips[2].samples[:4_000]])
    a, b, c = (augmenter(clips[0].samples, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert a.shape != c.shape or not torch.equal(a, c)
    assert torch.isfinite(a).all()
    masked = a.clone()
    augmenter.mask(masked, a.mean(dim=0), np.random.default_rng(3))
    assert masked.shape == a.shape
    assert not torch.equal(masked, a)


@pytest.mark.parametrize("kbit_s", [16, 24, 32])
def test_coding_takes_the_treble_and_moves_nothing(clips, kbit_s) -> None:
    """A recording coded as MP3 keeps its length and its place in time, and loses its treble below 32 kbit/s."""
    samples = clips[0].samples
    coded = through_mp3(samples, 16_000, kbit_s)
    assert coded.shape == samples.shape
    assert coded.dtype == np.float32
    spectra = np.fft.rfft(samples), np.fft.rfft(coded)
    shift = int(np.argmax(np.fft.irfft(spectra[1] * np.conj(spectra[0]))))
    assert shift == 0
    above = [float(np.square(np.abs(s[len(s) * 6 // 8 :])).sum()) for s in spectra]  # from 6 kHz on
    assert (above[1] < 0.05 * above[0]) == (kbit_s < 32)


def test_coding_takes_clips_of_any_length() -> None:
    """From no sample to a few frames of MP3, as many come back as went in."""
    for count in (0, 1, 575, 576, 1_153, 5_000):
        assert through_mp3(np.full(count, 0.1, dtype=np.float32), 16_000, 24).shape == (count,)


def test_silence_as_noise_changes_nothing(clips) -> None:
    """A stretch of digital silence among the noises cannot be raised to a level: the audio stays finite."""
    features = FeatureOptions()
    augmenter = Augmenter(
        AugmentOptions(noise=1.0), features, noises=[np.full(16_000, 1e-25, dtype=np.float32)], rooms=[]
    )
    for seed in range(10):
        assert torch.isfinite(augmenter(clips[0].samples, np.random.default_rng(seed))).all()


def test_a_broken_batch_changes_no_weight(folder, monkeypatch) -> None:
    """A step whose loss is not a number is left out, and training goes on."""
    (folder / "train.toml").write_text(CONFIG.format(cell="lstm", steps=3))
    trainer = Trainer(load_config(folder / "train.toml"), folder, folder / "run", "cpu")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    whole = "asr.train.trainer._ctc"
    with monkeypatch.context() as patched:
        patched.setattr(whole, lambda logits, *rest: logits.float().sum() * float("nan"))
        trainer._train_step(next(trainer._batches()))
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    trainer.run()
    after = trainer.model.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


def test_librispeech_folders_are_read(tmp_path, clips) -> None:
    """A folder of SPEAKER/CHAPTER with a .trans.txt and audio beside it is a corpus."""
    chapter = tmp_path / "174" / "50561"
    chapter.mkdir(parents=True)
    (chapter / "174-50561-0000.opus").write_bytes(clips[0].path.read_bytes())
    (chapter / "174-50561.trans.txt").write_text("174-50561-0000 HE HAD NEVER BEEN\n")
    (utterance,) = read_corpus(tmp_path)
    assert utterance.text == "he had never been"
    cache = SampleCache(tmp_path, [utterance], 16_000, tmp_path / "cache")
    np.testing.assert_allclose(cache[0], clips[0].samples, atol=1e-4)


def test_a_manifest_that_is_not_there(tmp_path) -> None:
    """The error says so, and speaks of no shard."""
    with pytest.raises(DataError, match=r"nope\.jsonl: no such manifest"):
        read_corpus(tmp_path / "nope.jsonl")


def test_a_manifest_that_names_missing_audio(folder) -> None:
    """The error names the line and the utterance."""
    with (folder / "clips.jsonl").open("a") as file:
        file.write('{"id": "ghost", "text": "boo"}\n')
    with pytest.raises(DataError, match=r"clips\.jsonl:6: .*ghost"):
        read_corpus(folder / "clips.jsonl")


@pytest.mark.parametrize("text", ['"5"', '"..."', '" "', '"二"', "null", "5"])
def test_a_text_that_loses_every_word_is_not_silence(folder, text) -> None:
    """A line whose text has no word left after normalising is refused by its number, with what to write instead."""
    with (folder / "clips.jsonl").open("a") as file:
        file.write(f'{{"id": "librispeech-00217", "text": {text}}}\n')
    with pytest.raises(DataError, match=r"clips\.jsonl:6: .*text"):
        read_corpus(folder / "clips.jsonl")


def test_a_folder_has_no_lines_without_words(tmp_path, clips) -> None:
    """A transcript that is missing, or of digits only, is an error that names its line."""
    (tmp_path / "a.opus").write_bytes(clips[0].path.read_bytes())
    for line in ("a", "a 1984"):
        (tmp_path / "x.trans.txt").write_text(f"{line}\n")
        with pytest.raises(DataError, match=r"x\.trans\.txt:1: .*manifest"):
            read_corpus(tmp_path)


def add_noise(folder: Path, count: int) -> None:
    """Add recordings of hiss to the corpus, marked as having no words."""
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "clips.tar", "a") as tar, (folder / "clips.jsonl").open("a") as file:
        for number in range(count):
            path = write_audio(folder / f"hiss-{number}.wav", rng.normal(0, 0.02, 32_000).astype(np.float32))
            tar.add(path, path.name)
            file.write(json.dumps({"id": path.stem, "text": ""}) + "\n")


@pytest.mark.parametrize("kernels", ["torch", "native"])
@pytest.mark.parametrize("phonemes", [False, True])
def test_noise_without_words_teaches_silence(folder, kernels, phonemes, capsys) -> None:
    """With ``"text": ""`` hiss is trained on, also in a batch of nothing else: the network comes to say blank there."""
    add_noise(folder, 4)
    path = write_config(folder, 30)
    path.write_text(path.read_text() + f'kernels = "{kernels}"\n')
    if phonemes:
        write_lexicon({word: said[:1] for word, said in load_cmudict().items()}, folder / "lexicon.txt")
        path.write_text(path.read_text().replace("[data]", '[data]\nlexicon = "lexicon.txt"'))
    try:
        trainer = Trainer(load_config(path), folder, folder / "run", "cpu")
    except ConfigError as error:
        pytest.skip(str(error))
    noise = [i for i in trainer.chosen if not trainer.corpus.utterances[i].text]
    assert len(noise) == 4
    trainer.chosen = noise
    batch = next(iter(trainer._batches()))
    first = trainer._train_step(batch)
    assert math.isfinite(first)
    assert first > 0
    trainer.chosen = trainer._usable_utterances()
    trainer.run()
    assert trainer._train_step(batch) < 0.5 * first
    assert "(4 without words)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nlayer = 4\n", "unknown key 'layer'"),
        ("[modle]\n", r"unknown table \[modle\]"),
        ('[training]\nsteps = "many"\n', "steps must be int"),
        ("[model]\nlookahead_ms = 25\n", "multiple of 30"),
        ("[model\n", "not valid TOML"),
        ("[model]\nmels = 40\n", "must equal"),
        ('[training]\noptimiser = "sgd"\n', "choose muon or adamw"),
        ("[augment]\nmp3 = 0.3\nmp3_kbit_s = []\n", "needs bit rates"),
        ("[training]\nstay = 1.0\n", "name it as start"),
    ],
)
def test_slips_in_a_configuration(tmp_path, text, message) -> None:
    """A misspelt or impossible option is an error that names it."""
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.toml")


def test_a_pattern_that_finds_nothing(tmp_path) -> None:
    """The error names the pattern."""
    with pytest.raises(ConfigError, match="nothing-like-it"):
        find_paths(("nothing-like-it-*.jsonl",), tmp_path)


def run_cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asr.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_two_processes_share_the_work(folder) -> None:
    """``asr train --processes 2`` trains to the end and writes a model."""
    done = run_cli("train", write_config(folder, 2), "--output", folder / "run", "--device", "cpu", "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "model" / "weights.safetensors").exists()


def test_evaluate_prints_a_table_and_writes_hypotheses(folder, recognizer) -> None:
    """``asr evaluate`` prints rates and counts per corpus, and every hypothesis goes to the file."""
    out = folder / "hypotheses.jsonl"
    done = run_cli("evaluate", recognizer.bundle.path, folder / "clips.jsonl", "--output", out, "--cache", folder / "c")
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split() == ["corpus", "utts", "words", "WER", "%", "CER", "%", "ins", "del", "sub", "RTF"]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert int(row.split()[1]) == len(rows) == 5
    assert int(row.split()[2]) == sum(len(r["reference"].split()) for r in rows)
    assert all(r["hypothesis"] for r in rows)


def test_evaluate_refuses_an_output_that_it_cannot_write(folder) -> None:
    """A file of hypotheses in no folder is told of before the model and the corpora are looked for."""
    done = run_cli("evaluate", folder / "no-model", folder / "no.jsonl", "--output", folder / "none" / "out.jsonl")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"cannot write {folder / 'none' / 'out.jsonl'}: " in done.stderr


def test_evaluate_tells_corpora_of_one_name_apart(folder, recognizer) -> None:
    """Two manifests of one name are two lines, named by their folders, and one for both; the hypotheses say whose."""
    rows = (folder / "clips.jsonl").read_text().splitlines()
    for name, count in (("first", 2), ("second", 1)):
        (folder / name).mkdir()
        (folder / name / "clips.tar").symlink_to(folder / "clips.tar")
        (folder / name / "clips.jsonl").write_text("\n".join(rows[:count]))
    manifests = [folder / name / "clips.jsonl" for name in ("first", "second", "first")]
    out = folder / "hypotheses.jsonl"
    done = run_cli("evaluate", recognizer.bundle.path, *manifests, "--output", out, "--cache", folder / "c")
    assert done.returncode == 0, done.stderr
    shown = [line.split()[:2] for line in done.stdout.splitlines()[1:]]
    assert shown == [["first/clips", "2"], ["second/clips", "1"], ["all", "3"]]
    corpora = [json.loads(line)["corpus"] for line in out.read_text().splitlines()]
    assert corpora == ["first/clips", "first/clips", "second/clips"]


def test_dev_sets_of_one_name_are_all_scored(folder) -> None:
    """A check of a training run shows the rates of each of two dev sets that have the same name."""
    for name in ("first", "second"):
        (folder / name).mkdir()
        (folder / name / "clips.tar").symlink_to(folder / "clips.tar")
        (folder / name / "clips.jsonl").symlink_to(folder / "clips.jsonl")
    path = write_config(folder, 1)
    path.write_text(path.read_text().replace('dev = ["clips.jsonl"]', 'dev = ["*/clips.jsonl"]'))
    train(load_config(path), folder, folder / "run", "cpu")
    rates = [row["wer"] for row in losses(folder / "run") if "wer" in row]
    assert {name.split()[0] for name in rates[-1]} == {"first/clips", "second/clips"}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/dev.jsonl", "b/test.jsonl"], ["dev", "test"]),
        (["a/dev.jsonl", "b/dev.jsonl", "b/test.jsonl"], ["a/dev", "b/dev", "test"]),
        (["x/a/dev.jsonl", "y/a/dev.jsonl", "x/b/dev.jsonl"], ["x/a/dev", "y/a/dev", "b/dev"]),
        (["/dev.jsonl", "/a/dev.jsonl"], ["dev", "a/dev"]),
        (["/a/dev", "/a/dev.jsonl"], ["/a/dev", "/a/dev.jsonl"]),
        (["a/dev.jsonl", "a/../a/dev.jsonl"], ["dev"]),
    ],
)
def test_names_of_corpora(paths, names) -> None:
    """Every corpus has a name of its own, as short as it can be, and one that is there twice is one."""
    assert list(named_corpora(map(Path, paths))) == names


def test_train_reports_a_bad_configuration(tmp_path) -> None:
    """``asr train`` with a missing file is one line and status 1."""
    done = run_cli("train", tmp_path / "none.toml")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot read" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "/proc/nowhere"], "/proc/nowhere"),
        pytest.param(
            ["--device", "cuda"],
            "finds no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_train_refuses_what_cannot_work_before_it_reads_any_speech(folder, options, message) -> None:
    """A folder that cannot be made, and a GPU that is not there, are one line and status 1."""
    (folder / "clips.tar").unlink()
    done = run_cli("train", write_config(folder, 2), "--processes", "2", *options)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert message in done.stderr


on_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc"
)


@on_glibc
def test_freed_memory_goes_back_to_the_system() -> None:
    """What the allocator keeps for training, holes among what is still used as well, is given back when asked."""
    program = """
import numpy as np
from asr.heap import give_back
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
kept = []
for _ in range(40):
    hole = np.ones(1_000_000)
    kept.append(np.ones(1_000))
    kept.append(hole)
del kept[1::2], hole
before = resident()
give_back()
print(before, resident())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **_MALLOC}, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert before > 300
    assert after < before - 250


@on_glibc
def test_training_on_text_keeps_what_it_frees() -> None:
    """A large array that is freed stays with the process once it was asked to keep all, and goes otherwise."""
    program = """
import sys
import numpy as np
from asr import heap
if sys.argv[1] == "kept":
    heap.keep_all()
array = np.ones(20_000_000)
del array
print(int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20)
"""
    kept, gone = (
        int(subprocess.run([sys.executable, "-c", program, how], capture_output=True, check=True).stdout)
        for how in ("kept", "gone")
    )
    assert kept > gone + 120
