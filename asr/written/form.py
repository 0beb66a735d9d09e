"""What of the written form is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from asr.written.punctuation import Punctuation
from asr.written.replacements import Replacement
from asr.written.writer import Writer


@dataclass(frozen=True)
class WrittenForm:
    """Parts of the written form."""

    numerals: bool = True  # numbers, dates, money and the like in figures: $25
    punctuation: bool = True  # full stops, commas, question marks and capitals, if the model folder can set them


def make_writer(
    wanted: bool | WrittenForm, replacements: Iterable[Replacement], model: Punctuation | None
) -> Writer | None:
    """What writes that; None if all stays as it is heard."""
    replacements = tuple(replacements)
    form = wanted if isinstance(wanted, WrittenForm) else WrittenForm(wanted, wanted)
    punctuation = model if form.punctuation else None
    if not (form.numerals or punctuation or replacements):
        return None
    return Writer(replacements, form.numerals, punctuation)
