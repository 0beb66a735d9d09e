"""Addresses of the internet: *example dot com slash help*, *john dot smith at gmail dot com*, *ten dot zero dot zero
dot one*.

What is said before *at* is a name only where something says so: *shop at example dot com* is no mailbox.
"""

from __future__ import annotations

from collections.abc import Callable

from asr.written.numerals import DIGITS, ZEROS, read_cardinal
from asr.written.tables import COMMON, DETERMINERS
from asr.written.words import Piece, Pieces, Words, word_set

_TOP = word_set("com org net edu gov mil int io co uk us ca au de fr eu in ai dev app me tv info biz")
_MAILBOXES = word_set("gmail yahoo hotmail outlook icloud aol protonmail googlemail msn")
_MAIL_CUES = word_set("email mail e-mail address mailto")
_IN_NAMES = {"dot": ".", "underscore": "_", "dash": "-", "hyphen": "-"}
_BEFORE_DOT_COM = word_set("of and or in on for was were is are be most many first big old new early former")
_CUE_WORDS = 3  # so far before a name a cue may stand: *email is*, *address is*
_GROUPS, _LARGEST_GROUP = 4, 255  # of an address in numbers


def write_address(words: Words, at: int) -> Pieces | None:
    """An address that begins here; it is written as one."""
    readers: tuple[Callable[[Words, int], tuple[str, int] | None], ...] = (_read_numbers, _read_mailbox, _read_site)
    for read in readers:
        found = read(words, at)
        if found is not None:
            return [Piece(found[0], found[1] - at)]
    return None


def _read_label(words: Words, at: int) -> tuple[str, int] | None:
    """A name between dots: a word, or letters and digits that are spelled."""
    text, end = "", at
    while len(words[end]) == 1 or words[end] in DIGITS or words[end] == "zero":
        text += "0" if words[end] == "zero" else str(DIGITS.get(words[end], words[end]))
        end += 1
    if text:
        return text, end
    word = words[at]
    return (word, at + 1) if word.isalpha() and word.isascii() else None


def _read_domain(words: Words, at: int) -> tuple[str, int] | None:
    """*example dot co dot uk*."""
    label = _read_label(words, at)
    if label is None or label[0] in DETERMINERS or label[0] in _BEFORE_DOT_COM:
        return None
    labels, end = [label[0]], label[1]
    while words[end] == "dot" and (label := _read_label(words, end + 1)) is not None:
        labels.append(label[0])
        end = label[1]
    return (".".join(labels), end) if len(labels) > 1 and labels[-1] in _TOP else None


def _read_site(words: Words, at: int) -> tuple[str, int] | None:
    """A domain, and what follows it behind slashes."""
    found = _read_domain(words, at)
    if found is None:
        return None
    text, end = found
    while words[end] == "slash" and (label := _read_label(words, end + 1)) is not None:
        text, end = f"{text}/{label[0]}", label[1]
    return text, end


def _read_mailbox(words: Words, at: int) -> tuple[str, int] | None:
    """*john dot smith at example dot com*."""
    label = _read_label(words, at)
    if label is None:
        return None
    name, end = label
    while words[end] in _IN_NAMES and (label := _read_label(words, end + 1)) is not None:
        name, end = name + _IN_NAMES[words[end]] + label[0], label[1]
    if words[end] != "at" or (domain := _read_domain(words, end + 1)) is None:
        return None
    plain = end == at + 1  # one word, which may be any
    if plain and (name in COMMON or name in DETERMINERS):
        return None
    cued = any(words[at - back] in _MAIL_CUES for back in range(1, _CUE_WORDS + 1))
    if plain and not cued and domain[0].split(".")[0] not in _MAILBOXES:
        return None
    return f"{name}@{domain[0]}", domain[1]


def _read_numbers(words: Words, at: int) -> tuple[str, int] | None:
    """*one nine two dot one six eight dot one dot one*."""
    groups: list[str] = []
    end = at
    while len(groups) < _GROUPS:
        if groups:
            if words[end] not in ("dot", "point"):
                return None
            end += 1
        group = _read_group(words, end)
        if group is None:
            return None
        groups.append(group[0])
        end = group[1]
    return ".".join(groups), end


def _read_group(words: Words, at: int) -> tuple[str, int] | None:
    digits, end = "", at
    while words[end] in DIGITS or words[end] in ZEROS:
        digits += str(DIGITS.get(words[end], 0))
        end += 1
    if len(digits) < 2 and (number := read_cardinal(words, at)) is not None:
        digits, end = str(number.value), number.end
    return (digits, end) if digits and int(digits) <= _LARGEST_GROUP else None
