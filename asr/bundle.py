"""A model folder: everything a recogniser needs, and nothing that runs code when read.

weights.safetensors   the network's parameters, matrices in 8-bit integers: see `asr.network.weights`
model.toml            [model], [features], [decoding] and [confidence]: what it was made and tuned with
tokens.txt            one token a line, the blank first
pieces.txt            the same of its word pieces, if it has any
lm.safetensors        the language model, if it has one: see `asr.lm.model`
second_lm.safetensors a recurrent language model, if it has one: see `asr.search.second_lm`
punctuation.safetensors sets punctuation and capitals, if it is there: see `asr.written.punctuation`
lexicon.safetensors   how words are said, if its tokens are phonemes: see `asr.lexicon.lexicon`
g2p.safetensors       how any other word is probably said: see `asr.lexicon.g2p`
training.toml         how it was trained (not read here)
MODEL_CARD.md         what it was trained on, how well it does, its licences (not read here)
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import ConfigError, ModelError
from asr.lexicon.g2p import GraphemeToPhoneme
from asr.lexicon.lexicon import Lexicon
from asr.lexicon.phonemes import TOKENS
from asr.lm import LanguageModel
from asr.network.features import FeatureOptions
from asr.network.shape import ModelOptions
from asr.network.weights import Weights, load_weights, save_weights
from asr.options import from_table
from asr.search.decoder import DecoderOptions
from asr.search.second_lm import SecondLm
from asr.search.words import Calibration
from asr.text.tokens import Tokenizer
from asr.written.punctuation import Punctuation

FORMAT = 3  # of the folder; raised when an older package could not read a newer one
_READ = (1, 2, 3)  # formats that this package reads: all weights in half precision; in 8-bit integers; these deflated
LM_FILE = "lm.safetensors"
SECOND_LM_FILE = "second_lm.safetensors"
LEXICON_FILE = "lexicon.safetensors"
G2P_FILE = "g2p.safetensors"
PUNCTUATION_FILE = "punctuation.safetensors"
PIECES_FILE = "pieces.txt"
_AGAIN = "Copy the model folder again, with all its files"


@dataclass(frozen=True)
class Bundle:
    """A loaded model folder."""

    shape: ModelOptions  # of the network
    weights: Weights  # of the network
    features: FeatureOptions
    tokenizer: Tokenizer
    path: Path
    pieces: Tokenizer | None = None  # a second alphabet, for greedy decoding
    lm: LanguageModel | None = None
    lexicon: Lexicon | None = None  # if the tokens are phonemes
    g2p: GraphemeToPhoneme | None = None  # for words that the lexicon lacks
    second_lm: SecondLm | None = None  # asked about the likeliest hypotheses, if the tokens are phonemes
    punctuation: Punctuation | None = None  # for the written form
    decoding: DecoderOptions = field(default_factory=DecoderOptions)  # how to search, where nobody says otherwise
    calibration: Calibration = field(default_factory=Calibration)


def load_bundle(path: Path) -> Bundle:
    """Read a model folder. Raises ModelError that names the file that is missing or damaged."""
    if not path.is_dir():
        raise ModelError(f"no model folder at {path}: give the path of a folder with model.toml in it")
    for name in ("model.toml", "tokens.txt", "weights.safetensors"):
        if not (path / name).is_file():
            raise ModelError(f"model folder {path} has no {name}. {_AGAIN}")
    try:
        tables = tomllib.loads((path / "model.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"cannot read {path / 'model.toml'}: {error}. {_AGAIN}") from error
    if tables.get("format") not in _READ:
        raise ModelError(
            f"{path / 'model.toml'} has format {tables.get('format')!r}, this version reads 1 to {FORMAT}: "
            "use a model and a package of the same version"
        )
    try:
        features = from_table(FeatureOptions, tables.get("features", {}), "[features]")
        options = from_table(ModelOptions, tables.get("model", {}), "[model]")
        decoding = from_table(DecoderOptions, tables.get("decoding", {}), "[decoding]")
        calibration = from_table(Calibration, tables.get("confidence", {}), "[confidence]")
    except ConfigError as error:
        raise ModelError(f"{path / 'model.toml'}: {error}") from error
    tokenizer = _load_tokenizer(path / "tokens.txt", options.tokens)
    pieces = _load_tokenizer(path / PIECES_FILE, options.pieces) if options.pieces else None
    options = dataclasses.replace(options, middle_ctc=False)
    weights = load_weights(path / "weights.safetensors", options)
    lm = LanguageModel.load(path / LM_FILE) if (path / LM_FILE).exists() else None
    lexicon = Lexicon.load(path / LEXICON_FILE) if (path / LEXICON_FILE).exists() else None
    if lexicon is not None and tokenizer.tokens != TOKENS:
        raise ModelError(f"{path} has {LEXICON_FILE}, but its tokens.txt does not list the phonemes. {_AGAIN}")
    g2p = GraphemeToPhoneme.load(path / G2P_FILE) if (path / G2P_FILE).exists() else None
    second_lm = SecondLm.load(path / SECOND_LM_FILE) if (path / SECOND_LM_FILE).exists() else None
    punctuation = Punctuation.load(path / PUNCTUATION_FILE, lm) if (path / PUNCTUATION_FILE).exists() else None
    return Bundle(
        shape=options,
        weights=weights,
        features=features,
        tokenizer=tokenizer,
        path=path,
        pieces=pieces,
        lm=lm,
        lexicon=lexicon,
        g2p=g2p,
        second_lm=second_lm,
        punctuation=punctuation,
        decoding=decoding,
        calibration=calibration,
    )


def _load_tokenizer(path: Path, tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.load(path)
    if len(tokenizer) != tokens:
        raise ModelError(f"{path} has {len(tokenizer)} tokens, the model writes {tokens}. {_AGAIN}")
    return tokenizer


def save_bundle(
    path: Path,
    shape: ModelOptions,
    weights: Weights,
    features: FeatureOptions,
    tokenizer: Tokenizer,
    training: dict[str, Any],
    pieces: Tokenizer | None = None,
) -> None:
    """Write a model folder. Its weights are those that the 8-bit kernel makes of the model's own."""
    import tomli_w  # only training writes models

    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path / "tokens.txt")
    if pieces is not None:
        pieces.save(path / PIECES_FILE)
    tables = {
        "format": FORMAT,
        "model": dataclasses.asdict(dataclasses.replace(shape, middle_ctc=False)),
        "features": dataclasses.asdict(features),
    }
    (path / "model.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
    (path / "training.toml").write_text(tomli_w.dumps(training), encoding="utf-8")
    save_weights(path / "weights.safetensors", weights)


def update_bundle(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Replace tables of a model folder's model.toml, e.g. ``decoding``."""
    import tomli_w  # only tuning changes models

    file = path / "model.toml"
    part = path / "model.toml.part"
    part.write_text(tomli_w.dumps({**tomllib.loads(file.read_text(encoding="utf-8")), **tables}), encoding="utf-8")
    part.replace(file)
