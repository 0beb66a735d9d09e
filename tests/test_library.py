"""The library of compiled functions that recognition runs without Numba."""

from __future__ import annotations

import ast
import ctypes
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr import library
from asr.compiler import Compiled, entry
from asr.lexicon.lexicon import unfold
from asr.link_library import can_link, link, target_machine
from asr.network import packed_kernel, quantized_kernel
from asr.search.word_reading import read_other
from asr.search.word_search import run
from asr.search.word_weighing import carry

needs_library = pytest.mark.skipif(
    not (library.levels() and can_link(library.machine())),
    reason="it is built for Linux on x86-64 with AVX2 or AArch64, and linked by a C compiler",
)
MACHINES = {"x86_64": (62, "GLIBC_2.2.5"), "aarch64": (183, "GLIBC_2.17")}  # ELF's number, glibc's first version
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
    waiting: list = [unfold, run, read_other, carry, quantized_kernel.advance, packed_kernel.advance]
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


V3 = "avx2 fma bmi1 bmi2 f16c abm movbe"
V4 = V3 + " avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are for Linux")
@pytest.mark.parametrize(
    ("machine", "flags", "names"),
    [
        ("x86_64", "flags\t\t: fpu sse2", []),
        ("x86_64", f"processor\t: 0\nflags\t\t: fpu {V3}", ["avx2"]),
        ("x86_64", f"flags\t\t: {V4} avx512_vnni amx_int8", ["avx512vnni", "avx2"]),
        ("aarch64", "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid", ["neon"]),
        ("aarch64", "Features\t: fp asimd asimdhp cpuid asimddp", ["dotprod", "neon"]),
        ("aarch64", f"flags\t\t: {V4} avx512_vnni", ["neon"]),  # as an emulator may show its host's
        ("riscv64", "isa\t\t: rv64imafdc", []),
    ],
)
def test_a_machine_takes_the_best_library_of_its_kind(monkeypatch, machine, flags, names) -> None:
    """What Linux says of a processor, and the kind of machine, choose the libraries, best first."""
    found = library.flags_in(f"{line}\n" for line in flags.split("\n"))
    monkeypatch.setattr(library, "processor_flags", lambda: found)
    monkeypatch.setenv("ASR_MACHINE", machine)
    assert [level.name for level in library.levels()] == names


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are for Linux")
@pytest.mark.parametrize("allowed", [True, False])
def test_tiles_are_used_where_linux_lets_a_process_use_them(monkeypatch, allowed) -> None:
    """A processor with AMX takes its library, unless the kernel is too old or a sandbox forbids it."""
    found = library.flags_in([f"flags\t\t: {V4} avx512_vnni amx_tile amx_int8\n"])
    monkeypatch.setattr(library, "processor_flags", lambda: found)
    monkeypatch.setattr(library, "has_tiles", lambda: allowed)
    monkeypatch.setenv("ASR_MACHINE", "x86_64")
    assert [level.name for level in library.levels()] == [*["amx"] * allowed, "avx512vnni", "avx2"]


def needs_linker(machine: str):
    return pytest.mark.skipif(not can_link(machine), reason=f"nothing here links for {machine}")


each_machine = pytest.mark.parametrize("machine", [pytest.param(name, marks=needs_linker(name)) for name in MACHINES])


def elf_machine(path: Path) -> int:
    """The number of the kind of machine that a library is for."""
    begin = path.read_bytes()[:20]
    assert begin[:6] == b"\x7fELF\x02\x01"
    return int.from_bytes(begin[18:20], "little")


@each_machine
def test_a_library_needs_no_newer_glibc_than_the_first(tmp_path, machine) -> None:
    """A linked library asks for the first version of each function, and works where this is its machine."""
    from llvmlite import binding

    code = "declare double @exp(double)\ndefine double @twice(double %x) {\n%y = call double @exp(double %x)\n"
    code += "%z = fadd double %y, %y\nret double %z\n}\ndefine void @hidden() { ret void }"
    compiled = tmp_path / "twice.o"
    compiled.write_bytes(target_machine(machine, "generic", "").emit_object(binding.parse_assembly(code)))
    path = tmp_path / "twice.so"
    link(machine, [compiled], ["twice"], path)
    number, version = MACHINES[machine]
    assert elf_machine(path) == number
    text = path.read_bytes()
    assert set(re.findall(rb"GLIBC_[\d.]+", text)) == {version.encode()}
    assert b"libm.so.6\0" in text
    assert b"libc.so.6\0" not in text
    assert b"hidden" not in text
    if machine == os.uname().machine:
        twice = ctypes.CDLL(str(path)).twice
        twice.restype, twice.argtypes = ctypes.c_double, (ctypes.c_double,)
        assert twice(1.0) == 2 * math.e


@each_machine
def test_a_library_without_what_it_calls_is_not_linked(tmp_path, machine) -> None:
    """A function that no library has is an error of linking, not of the user's who loads it."""
    from llvmlite import binding

    code = "declare void @unheard_of()\ndefine void @call() {\ncall void @unheard_of()\nret void\n}"
    compiled = tmp_path / "call.o"
    compiled.write_bytes(target_machine(machine, "generic", "").emit_object(binding.parse_assembly(code)))
    with pytest.raises(subprocess.CalledProcessError):
        link(machine, [compiled], ["call"], tmp_path / "call.so")
    assert [path.name for path in tmp_path.iterdir()] == ["call.o"]


@needs_linker("aarch64")
def test_libraries_for_aarch64_are_built_on_any_machine(tmp_path) -> None:
    """Both are of that machine and have a function by the name that it is looked for by. (The lexicon's is quick.)"""
    program = """
import sys
from pathlib import Path
from asr import build_library
from asr.library import LEVELS
with build_library._collected() as calls:
    build_library._call_lexicon()
build_library._calls = lambda packed: calls
build_library.build_here(Path(sys.argv[1]), [level for level in LEVELS if level.machine == "aarch64"])
"""
    settings = {"ASR_MACHINE": "aarch64", "NUMBA_OPT": "0", "ASR_COMPILED": "numba"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dotprod.so", "neon.so"]
    for path in tmp_path.iterdir():
        assert elf_machine(path) == MACHINES["aarch64"][0]
        assert library.symbol(unfold.name, ("array |u1 1 rw C",) * 4).encode() in path.read_bytes()


def test_factors_of_bytes_give_the_same_bits(clips) -> None:
    """What AArch64 multiplies, bytes, gives the same texts, times and confidences as x86's 16 bits."""
    path = [str(clips[0].path)]
    as_on_arm, _ = recognized(path, ASR_MACHINE="aarch64", ASR_COMPILED="numba")
    assert as_on_arm == recognized(path)[0]
