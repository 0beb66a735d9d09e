"""The library of compiled functions that recognition runs without Numba."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr import library
from asr.compiler import Compiled, entry
from asr.lexicon.lexicon import unfold
from asr.network import quantized_kernel, vnni_kernel
from asr.search.word_reading import read_other
from asr.search.word_search import run

needs_library = pytest.mark.skipif(
    not library.levels() or shutil.which(os.environ.get("CC", "cc").split()[0]) is None,
    reason="it is built for Linux on x86-64 with AVX2, and linked by a C compiler",
)
PROGRAM = """
import json, sys
import asr
recognizer = asr.load()
events = []
for path in sys.argv[1:]:
    events += [repr(event) for event, _ in recognizer.transcribe_events(path, hot_words=["friend"])]
print(json.dumps([events, sorted({"numba", "llvmlite", "torch"} & set(sys.modules))]))
"""


def recognized(paths: list[str], **environment: str) -> tuple[list[str], list[str]]:
    """Every event of some files, and which of the large libraries were imported for them."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    events, imported = json.loads(done.stdout)
    return events, imported


@needs_library
def test_recognition_imports_no_compiler_and_numba_gives_the_same_bits(clips) -> None:
    """Texts, times and confidences are the same with the library, which needs no Numba, and with Numba."""
    paths = [str(clip.path) for clip in clips[:2]]
    events, imported = recognized(paths)
    assert imported == [], "the library is not there or of other sources: python -m asr.build_library asr/compiled"
    assert len(events) > 10
    same, imported = recognized(paths, ASR_COMPILED="numba")
    assert imported == ["llvmlite", "numba"]
    assert same == events


@needs_library
def test_a_library_has_what_it_was_built_with_and_no_more() -> None:
    """Arguments of another kind, and functions that it lacks, are not found in it."""
    found = library.library()
    assert found is not None, "python -m asr.build_library asr/compiled"
    octets = "array |u1 1 rw C"
    assert found.function(unfold.name, (octets,) * 4) is not None
    assert found.function(unfold.name, (octets,) * 3) is None
    assert found.function("asr.lexicon.lexicon:fold", (octets,) * 4) is None


def test_a_library_is_of_all_the_files_that_its_functions_are_in() -> None:
    """Every function that an entry comes to, and every module that one takes a value from, is of the named sources."""
    sources = {str(library.PACKAGE / name) for name in library.SOURCES}
    waiting: list = [unfold, run, read_other, quantized_kernel.advance, vnni_kernel.advance]
    seen = set()
    while waiting:
        function = waiting.pop().py_func
        if function not in seen:
            seen.add(function)
            assert function.__code__.co_filename in sources
            used = [function.__globals__.get(name) for name in function.__code__.co_names]
            waiting += [value for value in used if isinstance(value, Compiled)]
            constants = {name for name in function.__code__.co_names if isinstance(function.__globals__.get(name), int)}
            for node in ast.walk(ast.parse(Path(function.__code__.co_filename).read_text())):
                if isinstance(node, ast.ImportFrom) and constants & {alias.name for alias in node.names}:
                    assert str(library.PACKAGE.parent / f"{node.module.replace('.', '/')}.py") in sources
    assert len(seen) > 60


def test_what_no_library_has_is_compiled_by_numba() -> None:
    """A function of arguments that no library knows gives its result all the same."""

    @entry
    def total(numbers, factor):
        found = 0
        for number in numbers:
            found += number * factor
        return found

    assert total(np.arange(5), 3) == 30
    assert total(np.arange(10)[::2], 2) == 40


def test_a_damaged_library_is_an_error_of_loading(tmp_path) -> None:
    """What is no library is passed over: the search for one expects this error."""
    path = tmp_path / "avx2.so"
    path.write_bytes(b"\x7fELF and no more")
    with pytest.raises(OSError, match=r"avx2\.so"):
        library.Library(path)
