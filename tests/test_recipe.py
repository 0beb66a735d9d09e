"""The recipe of the shipped model, on five utterances and a few pages of text: from folders to a model folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from audio_files import write_audio
from clip_corpus import write_clip_corpus

import asr
from asr.bundle import save_bundle
from asr.errors import ConfigError
from asr.lexicon.lexicon import read_lexicon
from asr.lexicon.phonemes import TOKENS
from asr.network.features import FeatureOptions
from asr.network.model import AcousticModel
from asr.network.shape import ModelOptions
from asr.options import from_table
from asr.text.tokens import Tokenizer
from asr.train.augment import AugmentOptions
from asr.train.config import TrainingOptions
from asr.train.corpus import SampleCache, read_corpus

sys.path.insert(0, str(Path(__file__).parent.parent / "pretrained" / "recipe"))
import make_model
import make_noise_lines
import make_smaller

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
RECIPE = """
start = "shipped"
[speech]
train = ["clips.jsonl"]
dev = ["clips.jsonl"]
noise = ["noise.tar"]
noise_minutes = 0.1
coded = true
[text]
files = ["pages.txt", "quoted.txt"]
pieces = 20
megabytes = 1.0
second_steps = 3
punctuation_steps = 3
[g2p]
file = "shipped/g2p.safetensors"
[tune]
minutes = 1.0
beam = 8
[model]
layers = 6
blocks = 4
width = 512
lookahead_ms = 180
dropout = 0.06
[[stage]]
name = "ctc"
crf = false
[stage.training]
steps = 1
batch_s = 20.0
min_lines = 2
learning_rate = 1e-6
[[stage]]
name = "crf"
[stage.training]
steps = 1
batch_s = 20.0
min_lines = 2
learning_rate = 1e-6
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, recognizer: asr.Recognizer) -> Path:
    """A folder of data and a recipe: the five clips, noise, our own documents as text, and one of the transcripts."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "clips.jsonl").write_text((DATA / "transcripts.jsonl").read_text())
    with tarfile.open(folder / "clips.tar", "w") as tar:
        for path in sorted(DATA.glob("*.opus")):
            tar.add(path, path.name)
    hiss = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    with tarfile.open(folder / "noise.tar", "w") as tar:
        tar.add(write_audio(folder / "hiss.wav", hiss), "hiss.wav")
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    (folder / "pages.txt").write_text("\n".join(path.read_text(encoding="utf-8") for path in pages))
    quoted = json.loads((DATA / "transcripts.jsonl").read_text().splitlines()[-1])["text"]
    talk = "He has been here, and he has never been there.\n" * 30  # whatever the documents say
    (folder / "quoted.txt").write_text(f"Here is what may be read.\n{quoted}\n{talk}")
    (folder / "shipped").symlink_to(recognizer.bundle.path)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def maker(data: Path, recipe: str, output: Path) -> make_model.Maker:
    (data / "recipe.toml").write_text(recipe)
    return make_model.Maker(make_model.read_recipe(data / "recipe.toml"), data, data, output)


def test_one_command_makes_a_model(data: Path, tmp_path: Path, clips, capsys) -> None:
    """The command leaves a model folder that recognises, with all its parts. After a change it makes again what the
    change concerns, and nothing else, but no training that was done."""
    program = ROOT / "pretrained" / "recipe" / "make_model.py"
    command = [sys.executable, str(program), str(data / "recipe.toml"), "--data", str(data), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "(2 without words)" in done.stdout
    recognizer = asr.load(tmp_path / "model")
    bundle = recognizer.bundle
    assert bundle.tokenizer.tokens == TOKENS
    parts = bundle.lexicon, bundle.lm, bundle.second_lm, bundle.punctuation, bundle.g2p, bundle.pieces
    assert all(part is not None for part in parts)
    vocabulary = set((tmp_path / "text" / "vocabulary.txt").read_text().split())
    assert set(bundle.lexicon or ()) == vocabulary
    # The lexicon is of some hundred words: most of those that it has are heard, as the shipped network hears them.
    heard = set(recognizer.transcribe(clips[0].path, written=False).text.split())
    assert {"he", "has", "been", "never"} <= heard <= vocabulary
    assert set(read_lexicon(tmp_path / "lexicon.txt")) == {word for clip in clips for word in clip.text.split()}
    assert "WER" in (tmp_path / "scores.txt").read_text()
    kept = (tmp_path / "text" / "quoted.txt").read_text()
    assert "Here" in kept
    assert "hurstwood" not in kept

    capsys.readouterr()
    maker(data, RECIPE.replace("beam = 8", "beam = 6"), tmp_path).run()
    lines = capsys.readouterr().out.splitlines()
    before = [line.partition(":")[0] for line in lines if line.endswith("done before")]
    steps = "text g2p lexicon pieces phone_lm lm second_lm punctuation noise coded ctc crf model"
    assert before == steps.split()
    assert any(line.startswith("tune: done in") for line in lines)

    changed = maker(data, RECIPE.replace("punctuation_steps = 3", "punctuation_steps = 2"), tmp_path)
    with pytest.raises(ConfigError, match="model needs punctuation, which is not done"):
        changed.run(["model"])
    changed.run(["punctuation"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if " done" in line] == ["punctuation"]
    changed.run()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if "done in" in line] == ["model", "tune", "scores"]
    with pytest.raises(ConfigError, match="trained with other settings: delete it"):
        maker(data, RECIPE.replace("steps = 1", "steps = 2", 1), tmp_path).run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[stage", "[run"), r"needs a \[\[stage\]\]"),
        (("pieces = 20", "piece = 20"), "unknown key 'piece'"),
        (('train = ["clips.jsonl"]', ""), "train"),
        (('["clips.jsonl"]', '["nothing.jsonl"]'), "no file matches 'nothing.jsonl'"),
        (("[tune]", "[tuning]"), "unknown 'tuning'"),
    ],
)
def test_slips_in_a_recipe(data: Path, tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """A misspelt recipe, or one whose data are not there, is one line that names what is wrong, before any work."""
    assert change[0] in RECIPE
    with pytest.raises(ConfigError, match=message):
        maker(data, RECIPE.replace(*change), tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_steps_by_name(data: Path, tmp_path: Path) -> None:
    """A step that is asked for by itself says which one it lacks, and a name that no step has is an error."""
    made = maker(data, RECIPE, tmp_path)
    with pytest.raises(ConfigError, match="crf needs ctc, which is not done"):
        made.run(["crf"])
    with pytest.raises(ConfigError, match="no step 'training': there are text, g2p, "):
        made.run(["training"])


def test_the_recipe_of_the_shipped_model_can_be_read() -> None:
    """english.toml is a recipe, and a run of training takes what its stages say."""
    recipe = make_model.read_recipe(ROOT / "pretrained" / "recipe" / "english.toml")
    from_table(ModelOptions, recipe.model, "[model]")
    for stage in recipe.stages:
        from_table(TrainingOptions, stage.training, stage.name)
        from_table(AugmentOptions, stage.augment, stage.name)


def test_lines_without_words_are_noise_of_all_lengths(data: Path, tmp_path: Path) -> None:
    """What make_noise_lines writes is a corpus whose texts are empty, of as many minutes as were asked for, and no
    louder than full scale; some of it is to be heard."""
    make_noise_lines.main([str(tmp_path / "lines"), str(data / "noise.tar"), "--minutes", "1"])
    corpus = read_corpus(tmp_path / "lines.jsonl")
    cache = SampleCache(tmp_path / "lines.jsonl", corpus, 16_000, tmp_path / "cache")
    lines = [cache[i] for i in range(len(corpus))]
    assert {utterance.text for utterance in corpus} == {""}
    assert 60 <= sum(map(len, lines)) / 16_000 < 70
    assert all(np.abs(line).max(initial=0) <= 1 for line in lines)
    assert sum(bool(line.any()) for line in lines) > 0.8 * len(lines)


def test_four_bits_as_speech_says(tmp_path, clips, capsys) -> None:
    """A model of letters gets four bits by the clips it is to hear: its layers have sixteen weights, times a scale for
    each row, and it can be loaded. Speech without four bits is refused."""
    write_clip_corpus(tmp_path, asr.load())
    options = ModelOptions(tokens=29, layers=2, blocks=2, width=32, conv_width=24, lookahead_ms=60, middle_ctc=False)
    network = AcousticModel(options).eval()
    save_bundle(tmp_path / "model", options, network.arrays(), FeatureOptions(), Tokenizer.english_characters(), {})
    speech = ["--speech", str(tmp_path / "clips.jsonl"), "--cache", str(tmp_path / "cache")]
    make_smaller.main([str(tmp_path / "model"), str(tmp_path / "coarse"), "--four-bits", *speech])
    assert capsys.readouterr().out.count("of what it gives is wrong") == 6
    recognizer = asr.load(tmp_path / "coarse")
    weights = recognizer.bundle.weights
    for name in ("blocks.1.weight", "cells.0.weight_ih_l0", "cells.1.weight_hh_l0"):
        assert len(np.unique(weights[name])) <= 16
    recognizer.transcribe(clips[0].path)
    with pytest.raises(SystemExit):
        make_smaller.main([str(tmp_path / "model"), str(tmp_path / "other"), *speech])
