"""Make a model folder from folders of speech and text: the whole way, with one command.

    pip install -c constraints.txt -e '.[train]'
    python pretrained/recipe/make_model.py pretrained/recipe/english.toml --data DATA --output runs/english

A recipe says which files below DATA to take and what to make of them; docs/training.md says what each step does. A step
whose product is there is skipped, one that was interrupted begins again, and training goes on from its last checkpoint.
What a recipe or data that have changed concern is made again, but no run of training is ever thrown away: delete it
yourself. The finished model is OUTPUT/model, its word error rates are in OUTPUT/scores.txt.

A step needs only those that it uses: with `--only`, two such commands work side by side for one OUTPUT, say one on the
network's stages while the other makes the language models.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import make_coded_speech
import make_lm_text
import make_noise_lines
import make_phone_lm
import make_word_pieces
import tomli_w
from asr.cli.main import main as asr_command

from asr.bundle import G2P_FILE, LEXICON_FILE, LM_FILE, PUNCTUATION_FILE, SECOND_LM_FILE
from asr.errors import AsrError, ConfigError
from asr.options import from_table, read_tables
from asr.train.config import find_paths
from asr.train.corpus import read_corpus


@dataclass(frozen=True)
class Speech:
    """Which speech to take. Patterns are relative to the data folder."""

    train: tuple[str, ...]  # manifests or LibriSpeech-style folders; named twice, it counts twice
    dev: tuple[str, ...] = ()  # what the model is tuned and measured on, and no text may quote
    noise: tuple[str, ...] = ()  # tar files of background recordings
    rooms: tuple[str, ...] = ()  # tar files of room impulse responses
    noise_minutes: float = 0.0  # of lines without words to make and train on
    coded: bool = False  # also train on copies of the manifests' speech as MP3


@dataclass(frozen=True)
class Text:
    """What to make of texts."""

    files: tuple[str, ...]  # plain or compressed, relative to the data folder
    pieces: int = 1000  # word pieces
    order: int = 3  # longest n-gram
    megabytes: float = 19.9  # of the language model
    phonemes: int = 7_000_000  # of each text, for the phoneme trigram
    second_steps: int = 0  # of the recurrent language model's training, 8,192 words each; 0: no such model
    punctuation_steps: int = 0  # of the model of punctuation's training, 8,192 words each; 0: no such model
    punctuation_shares: dict[str, float] = field(default_factory=dict)  # of texts by name; others have the rest
    kernels: str = "torch"  # for both: "native" is faster on CPUs with AMX or AVX-512 BF16


@dataclass(frozen=True)
class Graphemes:
    """The grapheme-to-phoneme model."""

    file: str = ""  # take this one, relative to the recipe; empty: train one
    epochs: int = 8  # of its network


@dataclass(frozen=True)
class Tuning:
    """The search's weights."""

    minutes: float = 20.0  # of each dev corpus
    beam: int = 0  # hypotheses kept; 0: tuned too


@dataclass(frozen=True)
class Stage:
    """A run of training. Each begins with the model of the one before it."""

    name: str  # of its folder
    crf: bool = True  # CTC-CRF; false: plain CTC, which the first hours need
    augment: dict[str, Any] = field(default_factory=dict)  # as in a training configuration
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A recipe file."""

    speech: Speech
    text: Text
    model: dict[str, Any]  # [model] of the training configurations
    stages: tuple[Stage, ...]
    start: str = ""  # model folder to begin with, relative to the recipe; empty: random weights
    g2p: Graphemes = field(default_factory=Graphemes)
    tune: Tuning = field(default_factory=Tuning)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file. Raises ConfigError that names what is wrong."""
    tables = read_tables(path)
    kinds: dict[str, Any] = {"speech": Speech, "text": Text, "g2p": Graphemes, "tune": Tuning}
    stages = tables.pop("stage", [])
    if not stages:
        raise ConfigError(f"{path}: needs a [[stage]]")
    if missing := {"speech", "text", "model"} - set(tables):
        raise ConfigError(f"{path}: needs a table [{min(missing)}]")
    if unknown := set(tables) - {*kinds, "model", "start"}:
        raise ConfigError(
            f"{path}: unknown {min(unknown)!r}: there are {', '.join([*kinds, 'model', 'start', 'stage'])}"
        )
    try:
        parts = {
            name: from_table(kind, tables[name], f"{path} [{name}]") for name, kind in kinds.items() if name in tables
        }
        made = tuple(from_table(Stage, stage, f"{path} [[stage]]") for stage in stages)
    except TypeError as error:  # a key that has no default
        raise ConfigError(f"{path}: {error}") from error
    return Recipe(model=tables["model"], stages=made, start=tables.get("start", ""), **parts)


@dataclass(frozen=True)
class Step:
    """Work that leaves a product in the output folder."""

    name: str
    work: Callable[[], None]
    uses: tuple[str, ...]  # the steps whose products it reads: made again, they make it again
    settings: object = None  # what the product depends on besides


class Maker:
    """The steps of a recipe, each a method that writes its product into the output folder."""

    def __init__(self, recipe: Recipe, base: Path, data: Path, output: Path) -> None:
        self.recipe, self.base, self.output = recipe, base, output
        speech = recipe.speech
        self.train, self.dev, self.noise, self.rooms, self.texts = (
            [path.resolve() for path in find_paths(patterns, data)]
            for patterns in (speech.train, speech.dev, speech.noise, speech.rooms, recipe.text.files)
        )

    def steps(self) -> list[Step]:
        """What is to be done, in an order in which it can be."""
        recipe, speech = self.recipe, self.recipe.speech
        text, rooms = recipe.text, _identity(self.rooms)
        steps = [
            Step("text", self.clean_text, (), [_identity(self.texts), _identity(self.dev)]),
            Step("g2p", self.make_g2p, (), asdict(recipe.g2p)),
            Step("lexicon", self.make_lexicons, ("text", "g2p"), _identity(self.train)),
            Step("pieces", self.make_pieces, ("text",), text.pieces),
            Step("phone_lm", self.make_phone_lm, ("lexicon",), text.phonemes),
            Step("lm", self.make_lm, ("text",), [text.order, text.megabytes]),
            Step("second_lm", self.make_second_lm, ("text",), text.second_steps),
            Step(
                "punctuation",
                self.make_punctuation,
                ("lm",),
                [text.punctuation_steps, text.punctuation_shares],
            ),
            Step("noise", self.make_noise, (), [speech.noise_minutes, _identity(self.noise)]),
            Step("coded", self.make_coded, (), [speech.coded, _identity(self.train)]),
        ]
        before: tuple[str, ...] = ("lexicon", "pieces", "phone_lm", "noise", "coded")
        for number, stage in enumerate(recipe.stages):
            settings = [asdict(stage), recipe.model, recipe.start, rooms]
            steps.append(Step(stage.name, functools.partial(self.train_stage, number), before, settings))
            before = (stage.name,)
        parts = ("lexicon", "g2p", "lm", "second_lm", "punctuation")
        return [
            *steps,
            Step("model", self.assemble, (*before, *parts)),
            Step("tune", self.tune, ("model",), asdict(recipe.tune)),
            Step("scores", self.score, ("tune",)),
        ]

    def run(self, only: Sequence[str] = ()) -> None:
        """Do what is not done yet: all of it, or the steps of these names."""
        folder = self.output / "done"
        folder.mkdir(parents=True, exist_ok=True)
        steps, keys = self.steps(), dict[str, str]()
        if unknown := set(only) - {step.name for step in steps}:
            raise ConfigError(f"no step {min(unknown)!r}: there are {', '.join(step.name for step in steps)}")

        def is_done(name: str) -> bool:
            stamp = folder / name
            return stamp.exists() and stamp.read_text() == keys[name]

        for step in steps:
            used = [keys[name] for name in step.uses]
            keys[step.name] = hashlib.sha256(json.dumps([used, step.name, step.settings]).encode()).hexdigest()
            if only and step.name not in only:
                continue
            if is_done(step.name):
                print(f"{step.name}: done before", flush=True)
                continue
            for name in step.uses:
                if not is_done(name):
                    raise ConfigError(f"{step.name} needs {name}, which is not done: name it, too")
            print(f"{step.name}: …", flush=True)
            started = time.monotonic()
            step.work()
            (folder / step.name).write_text(keys[step.name])
            print(f"{step.name}: done in {time.monotonic() - started:.0f} s", flush=True)

    def clean_text(self) -> None:
        """Texts that quote nothing of the dev sets, and the words that are worth knowing."""
        folder = self.output / "text"
        shutil.rmtree(folder, ignore_errors=True)  # texts that the recipe named before
        make_lm_text.main([str(folder), *map(str, self.texts), "--measured", *map(str, self.dev)])

    @property
    def clean_texts(self) -> list[Path]:
        return [path for path in sorted((self.output / "text").glob("*.txt")) if path.name != "vocabulary.txt"]

    def make_g2p(self) -> None:
        """What says the words that no dictionary has."""
        options, target = self.recipe.g2p, self.output / G2P_FILE
        if options.file:
            shutil.copyfile(self.base / options.file, target)
        else:
            run_asr("lexicon", "train-g2p", target, "--epochs", options.epochs)

    def make_lexicons(self) -> None:
        """Pronunciations: of the transcripts' words to train with, of the vocabulary to recognise with."""
        words = sorted(
            {word for path in dict.fromkeys(self.train) for u in read_corpus(path) for word in u.text.split()}
        )
        heard, known = self.output / "transcript_words.txt", self.output / "text" / "vocabulary.txt"
        heard.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
        g2p = "--g2p", self.output / G2P_FILE
        run_asr("lexicon", "build", heard, *g2p, "-o", self.output / "lexicon.txt")
        run_asr("lexicon", "build", known, *g2p, "-o", self.output / LEXICON_FILE)

    def make_pieces(self) -> None:
        """Frequent sequences of letters, for the second output."""
        texts = map(str, self.clean_texts)
        make_word_pieces.main([str(self.output / "pieces.txt"), *texts, "--pieces", str(self.recipe.text.pieces)])

    def make_phone_lm(self) -> None:
        """The denominator of CTC-CRF."""
        target, lexicon, most = (
            self.output / "phone_lm.safetensors",
            self.output / LEXICON_FILE,
            self.recipe.text.phonemes,
        )
        make_phone_lm.main([str(target), str(lexicon), *map(str, self.clean_texts), "--most", str(most)])

    def make_lm(self) -> None:
        """The language model of the search."""
        text, vocabulary = self.recipe.text, self.output / "text" / "vocabulary.txt"
        size = "--order", text.order, "--megabytes", text.megabytes
        run_asr("lm", "build", self.output / LM_FILE, *self.clean_texts, *size, "--vocabulary", vocabulary)

    def make_second_lm(self) -> None:
        """What the search asks beside it."""
        text, target = self.recipe.text, self.output / SECOND_LM_FILE
        target.unlink(missing_ok=True)
        if text.second_steps:
            settings = "--steps", text.second_steps, "--kernels", text.kernels
            vocabulary = self.output / "text" / "vocabulary.txt"
            run_asr("lm", "train", target, *self.clean_texts, "--vocabulary", vocabulary, *settings)

    def make_punctuation(self) -> None:
        """What sets marks and capitals in the written form."""
        text, target = self.recipe.text, self.output / PUNCTUATION_FILE
        target.unlink(missing_ok=True)
        if text.punctuation_steps:
            shares = text.punctuation_shares
            files = [f"{path}={shares[path.stem]}" if path.stem in shares else path for path in self.clean_texts]
            settings = "--steps", text.punctuation_steps, "--kernels", text.kernels, "--lm", self.output / LM_FILE
            run_asr("punctuation", "train", target, *files, *settings)

    def make_noise(self) -> None:
        """Lines in which nothing is said."""
        if minutes := self.recipe.speech.noise_minutes:
            corpus = self.output / "noise_lines"
            make_noise_lines.main([str(corpus), *map(str, self.noise), "--minutes", str(minutes)])

    def make_coded(self) -> None:
        """Copies of the speech as MP3."""
        if manifests := self._coded():
            make_coded_speech.main([*map(str, manifests), "--output", str(self.output / "coded")])

    def _coded(self) -> list[Path]:
        manifests = [path for path in dict.fromkeys(self.train) if path.suffix == ".jsonl"]
        return manifests if self.recipe.speech.coded else []

    def train_stage(self, number: int) -> None:
        """Run ``asr train``, or let it go on."""
        recipe, stage = self.recipe, self.recipe.stages[number]
        folder, config = self.output / stage.name, self.output / f"{stage.name}.toml"
        start = str((self.base / recipe.start).resolve()) if recipe.start else ""
        if number:
            start = str((self.output / recipe.stages[number - 1].name / "model").resolve())
        noise_lines = [self.output.resolve() / "noise_lines.jsonl"] if recipe.speech.noise_minutes else []
        coded = [self.output.resolve() / "coded" / path.name for path in self._coded()]
        named: Mapping[str, list[Path]] = {
            "train": [*self.train, *coded, *noise_lines],
            "dev": self.dev,
            "noise": self.noise,
            "rooms": self.rooms,
        }
        data: dict[str, list[str] | str] = {key: [str(path) for path in paths] for key, paths in named.items()}
        data |= {
            "lexicon": "lexicon.txt",
            "phone_lm": "phone_lm.safetensors" if stage.crf else "",
            "pieces": "pieces.txt",
        }
        tables = {
            "data": data,
            "model": recipe.model,
            "augment": stage.augment,
            "training": {**stage.training, "start": start},
        }
        text = tomli_w.dumps(tables)
        if (folder / "checkpoint.pt").exists() and (not config.exists() or config.read_text(encoding="utf-8") != text):
            raise ConfigError(
                f"{folder} was trained with other settings: delete it to train again, or name another --output"
            )
        config.write_text(text, encoding="utf-8")
        # A process of its own: it restarts itself with settings of the memory allocator.
        command = [sys.executable, "-m", "asr.cli", "train", str(config), "--output", str(folder), *self.train_options]
        if status := subprocess.run(command).returncode:
            raise SystemExit(status)

    train_options: Sequence[str] = ()  # of `asr train`

    def assemble(self) -> None:
        """The last stage's network with all that recognition needs."""
        model = self.output / "model"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(self.output / self.recipe.stages[-1].name / "model", model)
        for name in (LEXICON_FILE, G2P_FILE, LM_FILE, SECOND_LM_FILE, PUNCTUATION_FILE):
            if (self.output / name).exists():
                shutil.copyfile(self.output / name, model / name)

    def tune(self) -> None:
        """The search's weights and the words' confidences."""
        if self.dev:
            options = self.recipe.tune
            beam = ["--beam", options.beam] if options.beam else []
            minutes, cache = ("--minutes", options.minutes), ("--cache", self.output / ".cache")
            run_asr("tune", self.output / "model", *self.dev, *minutes, *beam, *cache)

    def score(self) -> None:
        """Word error rates of what was made."""
        if self.dev:
            with (self.output / "scores.txt").open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
                run_asr("evaluate", self.output / "model", *self.dev, "--cache", self.output / ".cache")
            print((self.output / "scores.txt").read_text(encoding="utf-8"), end="")


def _identity(paths: Sequence[Path]) -> list[tuple[str, int]]:
    """Names and sizes: enough to see that other data were given."""
    return [(path.name, path.stat().st_size) for path in paths]


def run_asr(*arguments: object) -> None:
    """An ``asr`` command; one that fails has said why."""
    if status := asr_command([str(argument) for argument in arguments]):
        raise SystemExit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder that the recipe's patterns start from")
    parser.add_argument("--output", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--processes", type=int, default=1, help="that share the training (default: 1)")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP", help="do these steps, no others")
    options = parser.parse_args()
    try:
        maker = Maker(read_recipe(options.recipe), options.recipe.resolve().parent, options.data, options.output)
        maker.train_options = ["--processes", str(options.processes)]
        maker.run(options.only)
    except AsrError as error:
        raise SystemExit(f"make_model: {error}") from error


if __name__ == "__main__":
    main()
