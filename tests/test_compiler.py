"""How compiled code is kept, and what it is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest

from asr.array_table import ArrayTable


def test_a_cache_that_does_not_fit_is_compiled_anew(tmp_path) -> None:
    """Neither types renamed by an upgrade nor a changed function in another file leave old machine code in use."""
    program = tmp_path / "program.py"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    program.write_text(
        "from called import ARGUMENT, part\n"
        "from asr.compiler import jit\n"
        "@jit()\n"
        "def whole(pair):\n"
        "    return part(pair[0]) + pair[1]\n"
        "print(whole(ARGUMENT))\n"
    )

    def run(kind: str, factor: int) -> str:
        (tmp_path / "called.py").write_text(
            "from typing import NamedTuple\n"
            "from asr.compiler import inner\n"
            f"class {kind}(NamedTuple):\n    a: float\n    b: float\n"
            f"ARGUMENT = {kind}(5.0, 1.0)\n"
            f"@inner()\ndef part(x):\n    return {factor} * x\n"
        )
        done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("Pair", 2) == run("Pair", 2) == "11.0\n"
    assert run("Couple", 300) == "1501.0\n"
    assert run("Couple", 400) == "2001.0\n"


_PROGRAM = """
from asr.compiler import jit
def thrice(x):
    return 3 * x
print(jit()(thrice)(7.0))
"""


def start(program: str, cache: Path) -> subprocess.Popen[str]:
    """A process that compiles, with nothing compiled before unless it is in the cache."""
    cache.mkdir(exist_ok=True)
    script = cache.parent / "program.py"
    script.write_text(program)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, str(script)], env=environment, stdout=pipe, stderr=pipe, text=True)


def test_processes_that_compile_at_once_do_each_other_no_harm(tmp_path) -> None:
    """Three processes with one empty cache all have the right result, and so has one after them."""
    together = [start(_PROGRAM, tmp_path / "cache") for _ in range(3)]
    assert [process.communicate() for process in together] == [("21.0\n", "")] * 3
    assert start(_PROGRAM, tmp_path / "cache").communicate() == ("21.0\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_full_disk_does_not_hinder(tmp_path) -> None:
    """What is compiled and cannot be kept serves the process that compiled it."""
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n" + _PROGRAM
    assert start(limited, tmp_path / "cache").communicate() == ("21.0\n", "")


def test_compiled_code_reads_a_table_of_arrays() -> None:
    """Fields of a named tuple, nested ones and arrays of records among them, are read and written in place."""

    class Inner(NamedTuple):
        numbers: np.ndarray
        factor: int

    class Outer(NamedTuple):
        rows: np.recarray
        matrix: np.ndarray
        inner: Inner
        on: bool

    rows = np.recarray(3, dtype=np.dtype([("count", np.int32), ("weight", np.float64)], align=True))
    rows.count, rows.weight = [1, 2, 3], [0.5, 0.25, 0.125]

    def total(table):
        found = 0.0
        for i in range(len(table.rows)):
            found += table.rows.weight[i] * table.rows.count[i]
        table.rows[1].count = 7
        table.inner.numbers[-1] = 9
        return found + table.matrix[1, 2] + table.matrix.shape[1] + table.inner.factor * table.on

    table = ArrayTable(Outer(rows, np.arange(6.0).reshape(2, 3), Inner(np.zeros(2, dtype=np.int32), 100), True))
    assert numba.njit(total)(table) == 1.375 + 5 + 3 + 100
    assert rows.count.tolist() == [1, 7, 3]
    assert table.fields.inner.numbers.tolist() == [0, 9]
    with pytest.raises(ValueError, match="matrix"):
        ArrayTable(table.fields._replace(matrix=np.zeros((2, 3)).T))
