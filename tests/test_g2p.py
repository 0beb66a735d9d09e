"""Grapheme to phoneme: a small model, trained here on a part of the dictionary, and what holds for any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError, ModelError
from asr.lexicon.g2p import LETTERS, SPECIAL, GraphemeToPhoneme, shrink
from asr.lexicon.lexicon import Lexicon
from asr.lexicon.phonemes import VOWELS, encode_phonemes
from asr.lexicon.pronounce import Pronouncer, Source
from asr.train.cmudict import load_cmudict
from asr.train.g2p import G2pOptions, align, measure_g2p, split_families, train_g2p, word_family
from asr.train.g2p_network import G2pNetwork, G2pNetworkOptions

_TINY = G2pNetworkOptions(embedding=8, hidden=12, epochs=1)


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def parts() -> tuple[dict, dict]:
    """A fourth of the dictionary to train on, and word families that it has none of."""
    training, held_out = split_families(load_cmudict(), 0.05)
    return dict(list(training.items())[::4]), dict(list(held_out.items())[::20])


@pytest.fixture(scope="module")
def model(parts: tuple[dict, dict]) -> GraphemeToPhoneme:
    return train_g2p(parts[0], G2pOptions(rounds=6, network=None), quiet)


def test_words_that_no_dictionary_has(model: GraphemeToPhoneme) -> None:
    """Made-up words of plain spelling are said as anyone would."""
    spoken = {
        "wugs": "W AH G Z",
        "blick": "B L IH K",
        "snorping": "S N AO R P IH NG",
        "plim": "P L IH M",
        "fandler": "F AE N D L ER",
        "zatt": "Z AE T",
    }
    for word, expected in spoken.items():
        assert encode_phonemes(expected) in [said for said, _ in model.pronounce(word, 3)], word


def test_spelled_words(model: GraphemeToPhoneme) -> None:
    """Single letters and words without a vowel are spelled by the letters' names."""
    assert model.pronounce("b") == [(encode_phonemes("B IY"), 1.0)]
    assert model.pronounce("bbc") == [(encode_phonemes("B IY B IY S IY"), 1.0)]
    assert model.pronounce("a'") == [(encode_phonemes("EY"), 1.0)]


@settings(max_examples=80)
@given(st.text(LETTERS, min_size=1, max_size=64).filter(lambda word: word.strip("'")))
def test_any_word_gets_something(model: GraphemeToPhoneme, word: str) -> None:
    """Any letters give pronunciations that differ, the likeliest first, with probabilities that sum to one at most."""
    found = model.pronounce(word, 4)
    assert 1 <= len(found) <= 4
    assert len({said for said, _ in found}) == len(found)
    assert all(said and set(said) <= set(range(1, 40)) for said, _ in found)
    likely = [probability for _, probability in found]
    assert likely == sorted(likely, reverse=True)
    assert 0 < sum(likely) < 1 + 1e-6
    assert model.pronounce(word, 1) == found[:1]


@pytest.mark.parametrize("word", ["café", "r2d2", "two words", "", "'", "a" * 65])
def test_what_cannot_be_said(model: GraphemeToPhoneme, word: str) -> None:
    """Other characters, no letters, and endless words are errors."""
    with pytest.raises(DataError, match="cannot pronounce"):
        model.pronounce(word)


def test_held_out_words(model: GraphemeToPhoneme, parts: tuple[dict, dict]) -> None:
    """Trained on a fourth of the dictionary, n-grams alone say more than half of unseen words right."""
    score = measure_g2p(model, parts[1])
    assert score.words > 200
    assert score.wrong / score.words < 0.5
    assert score.edits / score.phonemes < 0.14


def test_families_stay_together(parts: tuple[dict, dict]) -> None:
    """No form of a held-out word is trained on."""
    assert word_family("abandoned") == word_family("abandoning") == word_family("abandon's") == word_family("abandon")
    assert not {word_family(word) for word in parts[0]} & {word_family(word) for word in parts[1]}


def test_alignment_gives_silent_letters_nothing(parts: tuple[dict, dict]) -> None:
    """Every chain spells its word and says its pronunciation; vowels lie on vowels, x on two sounds."""
    pairs = [(word, said[0]) for word, said in parts[0].items() if set(word) <= set(LETTERS) and len(said[0]) > 1]
    pairs = [(word, said) for word, said in pairs if len(said) <= len(word)][:6000]
    pairs.append(("box", encode_phonemes("B AA K S")))
    chains = align(pairs, 8, quiet)
    for (word, said), chain in zip(pairs, chains, strict=True):
        graphones = [graphone.split(".") for graphone in chain]
        assert "".join(letter for letter, *_ in graphones) == word
        assert encode_phonemes([p for _, *phonemes in graphones for p in phonemes]) == said
    assert chains[-1] == ["b.B", "o.AA", "x.K.S"]
    vowels = [
        encode_phonemes(g.split(".")[1:])[-1] in VOWELS
        for chain in chains
        for g in chain
        if g[0] in "ao" and len(g) > 1
    ]
    assert np.mean(vowels) > 0.97


def test_the_file_gives_the_same_answers(model: GraphemeToPhoneme, parts: tuple[dict, dict], tmp_path: Path) -> None:
    """A model with a network comes back from its file as it was, and a damaged file is an error."""
    path = tmp_path / "g2p.safetensors"
    small = dict(list(parts[0].items())[:3000])
    whole = train_g2p(small, G2pOptions(rounds=4, ngram_megabytes=0.1, network=_TINY), quiet)
    whole.save(path)
    loaded = GraphemeToPhoneme.load(path)
    for word in ("wugs", "blick", "o'zatt"):
        assert loaded.pronounce(word, 3) == whole.pronounce(word, 3)
    data = path.read_bytes()
    for damaged in (b"", data[:-9], data.replace(b"graphones", b"graphemes")):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="again"):
            GraphemeToPhoneme.load(path)


def test_the_network_reads_as_it_was_trained(model: GraphemeToPhoneme) -> None:
    """The stored network in NumPy says what torch's says, but for the rounding to 8 bits."""
    torch.manual_seed(3)
    letters = [LETTERS.index(graphone[0]) for graphone in model.graphones]
    network = G2pNetwork(len(LETTERS), letters, _TINY).eval()
    stored = GraphemeToPhoneme(model.graphones, model.ngrams, shrink(network.parameters_by_name()), (0.0, 1.0))
    word = np.array([LETTERS.index(letter) for letter in "o'hurstwood"])
    with torch.no_grad():
        expected = network(torch.from_numpy(word)[None])[0].numpy()
    possible = expected > -1e3
    np.testing.assert_allclose(stored._emissions(word)[:, SPECIAL:][possible], expected[possible], atol=0.02)


def test_possessives_of_names(model: GraphemeToPhoneme) -> None:
    """A name that nobody knows gets its possessive by rule."""
    pronouncer = Pronouncer([Lexicon({})], model)
    name, source = pronouncer.pronounce("zatt")
    assert source is Source.G2P
    assert pronouncer.pronounce("zatt's")[0][0] == (*name[0], *encode_phonemes("S"))


def test_nothing_to_train_on() -> None:
    """A dictionary without words of a to z is an error."""
    with pytest.raises(DataError, match="nothing to train on"):
        train_g2p({"42": [encode_phonemes("F AO R")]}, report=quiet)
