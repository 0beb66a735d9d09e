"""The lexicon: its two files, the rules for word forms, where pronunciations are from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from asr.cli.main import main
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError, ModelError
from asr.lexicon.lexicon import MOST, Lexicon, read_lexicon, write_lexicon
from asr.lexicon.phonemes import PHONEMES, TOKENS, decode_phonemes, encode_phonemes
from asr.lexicon.pronounce import Pronouncer, Source
from asr.lexicon.word_forms import derive
from asr.mapped_arrays import save_arrays
from asr.text.tokens import Tokenizer
from asr.train.cmudict import load_cmudict


@pytest.fixture(scope="module")
def cmudict() -> Lexicon:
    return load_cmudict()


def say(text: str) -> tuple[int, ...]:
    return encode_phonemes(text)


def test_phonemes_are_tokens_of_a_model(tmp_path: Path) -> None:
    """The tokens are the blank and 39 phonemes in the order of the alphabet, and fit a tokens.txt."""
    assert len(PHONEMES) == 39
    assert list(PHONEMES) == sorted(PHONEMES)
    Tokenizer(TOKENS).save(tmp_path / "tokens.txt")
    assert Tokenizer.load(tmp_path / "tokens.txt").tokens == TOKENS
    assert decode_phonemes(say("hh ah0 L OW1")) == "HH AH L OW"


words = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12).filter(
    lambda word: not any(char.isspace() for char in word)
)
pronunciations = st.lists(st.lists(st.integers(1, 39), min_size=1, max_size=9).map(tuple), min_size=1, max_size=6)


@settings(max_examples=25)
@given(st.dictionaries(words, pronunciations, max_size=30))
def test_the_compact_file_keeps_everything(tmp_path_factory: pytest.TempPathFactory, entries: dict) -> None:
    """Any words and pronunciations come back as they were, in order, but for duplicates and the fifth and later."""
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.safetensors"
    Lexicon(entries).save(path)
    loaded = Lexicon.load(path)
    assert dict(loaded) == {word: tuple(dict.fromkeys(said))[:MOST] for word, said in entries.items()}
    assert list(loaded.words) == sorted(entries, key=str.encode)


def test_the_dictionary_in_a_small_file(cmudict: Lexicon, tmp_path: Path) -> None:
    """All of CMUdict takes less than 0.8 MB, and compiled code finds each word's phonemes by its number."""
    path = tmp_path / "lexicon.safetensors"
    cmudict.save(path)
    assert path.stat().st_size < 800_000
    loaded = Lexicon.load(path)
    assert loaded == cmudict
    phonemes, begin, first = loaded.arrays
    number = loaded.find("tomato")
    assert loaded.words[number] == "tomato"
    found = [tuple(phonemes[begin[p] : begin[p + 1]]) for p in range(first[number], first[number + 1])]
    assert found == [say("T AH M EY T OW"), say("T AH M AA T OW")]
    assert loaded.find("tomatoish") == -1


def test_a_file_of_the_first_format_loads(tmp_path: Path) -> None:
    """A lexicon whose arrays lie in the file as they are, as older ones do, loads."""
    path = tmp_path / "lexicon.safetensors"
    lexicon = Lexicon({"one": [say("W AH N")], "once": [say("W AH N S")]})
    parts = {"letters": b"oncee", "shared": [0, 2], "added": [4, 1], "variants": [1, 1], "lengths": [4, 3]}
    said = [phoneme for word in ("once", "one") for phoneme in lexicon[word][0]]
    arrays = {name: np.array([*part], np.uint8) for name, part in (parts | {"phonemes": said}).items()}
    save_arrays(path, arrays, {"format": "1"})
    assert Lexicon.load(path) == lexicon


def test_variants_that_differ_in_stress_are_one(cmudict: Lexicon) -> None:
    """Without stress no pronunciation of a word comes twice, and real alternatives stay."""
    assert all(len(set(said)) == len(said) for said in cmudict.values())
    assert set(cmudict["read"]) == {say("R EH D"), say("R IY D")}


def test_a_damaged_file_is_named(cmudict: Lexicon, tmp_path: Path) -> None:
    """A file that is cut, or no lexicon, or whose parts do not fit, is a ModelError that says what to do."""
    path = tmp_path / "lexicon.safetensors"
    Lexicon({"one": [say("W AH N")], "two": [say("T UW")]}).save(path)
    whole = path.read_bytes()
    for data in (b"", b"no lexicon at all", whole[:-3], whole[:-1] + b"\x63"):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="again"):
            Lexicon.load(path)
    with pytest.raises(ModelError, match="cannot read"):
        Lexicon.load(tmp_path / "none")


def test_a_file_of_a_user(tmp_path: Path) -> None:
    """Comments, stress, case, several lines a word and CMUdict's numbered variants are understood."""
    path = tmp_path / "mine.txt"
    path.write_text(
        "# names\n\nZhivago  zh ih0 V AA1 G OW0   # the doctor\ntomato T AH M EY T OW\ntomato(2) T AH M AA T OW\n",
        encoding="utf-8",
    )
    lexicon = read_lexicon(path)
    assert dict(lexicon) == {
        "tomato": (say("T AH M EY T OW"), say("T AH M AA T OW")),
        "zhivago": (say("ZH IH V AA G OW"),),
    }
    write_lexicon(lexicon, path)
    assert read_lexicon(path) == lexicon


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fine F AY N\nwrong R AO NK\n", "line 2: 'NK' is no phoneme"),
        ("\n\nalone\n", "line 3: 'alone' has no pronunciation"),
        ("alone # AH L OW N\n", "line 1: 'alone' has no pronunciation"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    """A line that cannot be read is an error with its number."""
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)):
        read_lexicon(path)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("snack's", "S N AE K S"),
        ("hobart's", "HH OW B AA R T S"),
        ("walrus's", "W AO L R AH S IH Z"),
        ("philosophers'", "F AH L AA S AH F ER Z"),
        ("stammered", "S T AE M ER D"),
        ("jutted", "JH AH T IH D"),
        ("unlatched", "AH N L AE CH T"),
        ("grandpa'll", "G R AE N D P AA L"),
        ("shovelin'", "SH AH V L IH N"),
        ("lantern'", "L AE N T ER N"),
        ("glorying", "G L AO R IY IH NG"),
        ("paleness", "P EY L N AH S"),
        ("organisers", "AO R G AH N AY Z ER Z"),
    ],
)
def test_forms_of_known_words(cmudict: Lexicon, word: str, expected: str) -> None:
    """Endings are said as the sound before asks for."""
    assert word not in cmudict
    assert say(expected) in derive(word, lambda base: cmudict.get(base, ()))


def test_rules_agree_with_the_dictionary(cmudict: Lexicon) -> None:
    """Of the dictionary's own possessives, at least 95 of 100 are said as the rule says when their entry is hidden."""
    possessives = [word for word in cmudict if word.endswith("'s") and word[:-2] in cmudict][::7]
    right = [
        bool(set(derive(word, lambda base, hidden=word: () if base == hidden else cmudict.get(base, ()))) & set(said))
        for word, said in ((word, cmudict[word]) for word in possessives)
    ]
    assert len(right) > 500
    assert np.mean(right) > 0.95


def test_a_user_has_the_first_word(cmudict: Lexicon) -> None:
    """A user's pronunciation replaces the dictionary's, forms of it follow, and what nobody knows is an error."""
    mine = Lexicon({"tomato": [say("T OW M AE T OW")], "zhivago": [say("ZH IH V AA G OW")]})
    pronouncer = Pronouncer([mine, cmudict])
    assert pronouncer.pronounce("tomato") == ((say("T OW M AE T OW"),), Source.LEXICON)
    assert pronouncer.pronounce("zhivago's") == ((say("ZH IH V AA G OW Z"),), Source.RULE)
    with pytest.raises(DataError, match="no lexicon has it"):
        pronouncer.pronounce("qwyjibo")


def test_building_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`asr lexicon build` writes a list's words and a user's, says what it left out; `say` reads the result, and says
    the other words where one has no pronunciation."""
    (tmp_path / "words.txt").write_text("tomato 17\nwalrus's\nqwyjibo\n")
    (tmp_path / "mine.txt").write_text("zhivago ZH IH V AA G OW\n")
    output = tmp_path / "lexicon.safetensors"
    arguments = ["build", str(tmp_path / "words.txt"), "--lexicon", str(tmp_path / "mine.txt"), "-o", str(output)]
    assert main(["lexicon", *arguments]) == 0
    assert list(Lexicon.load(output)) == ["tomato", "walrus's", "zhivago"]
    assert "qwyjibo" in capsys.readouterr().err
    assert main(["lexicon", "say", str(output), "zhivago's"]) == 0
    assert capsys.readouterr().out == "zhivago's  ZH IH V AA G OW Z  # rule\n"
    assert main(["lexicon", "say", str(output), "qwyjibo", "tomato"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("tomato  T ")
    assert said.err.startswith("asr: ")
    assert said.err.count("\n") == 1
