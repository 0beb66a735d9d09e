"""Fuzz the codecs, guided by coverage.

pip install atheris && python tests/fuzz.py -max_total_time=60
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["asr.server"], enable_loader_override=False):
    from fuzz_codecs import fuzz

atheris.Setup(sys.argv, fuzz)
atheris.Fuzz()
