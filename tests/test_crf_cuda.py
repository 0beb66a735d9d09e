"""The GPU's sums of CTC-CRF: its source, run on the CPU with a thread for each of its own, gives those of torch."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from test_crf import BATCHES, graphs_of, random_lm, random_texts
from torch import Tensor

from asr.train import crf_cuda, crf_torch
from asr.train.phone_graph import Word

_SOURCE = Path(crf_cuda.__file__).with_name("kernels") / "crf.cu"
_ENTRIES = """
extern "C" void run_numerator(
    int blocks, int threads, const float *p, const int *steps, const int *firsts, const int *labels, const int *bs,
    const int *b, const int *as, const int *a, const unsigned char *ends, float *ahead, float *totals, float *out,
    float above, int most, int tokens, int widest) {
    launch(blocks, threads, [=] {
        numerator(p, steps, firsts, labels, bs, b, as, a, ends, ahead, totals, out, above, most, tokens, widest);
    });
}
extern "C" void run_denominator(
    int blocks, int threads, const float *p, const int *steps, const unsigned short *between, const float *twice,
    float *ahead, float *scales, float *totals, float *out, float below, float unit, int most, int symbols, int row) {
    launch(blocks, threads, [=] {
        denominator(p, steps, between, twice, ahead, scales, totals, out, below, unit, most, symbols, row);
    });
}
"""


@pytest.fixture(scope="module")
def emulated(tmp_path_factory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here")
    folder = tmp_path_factory.mktemp("cuda")
    source = _SOURCE.read_text(encoding="utf-8")
    source = source.replace("extern __shared__ float shared[];", "float *shared = shared_memory;")
    assert 'asm("cvt.f32.f16' in source
    source = source.replace('    float value;\n    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));\n', "")
    source = source.replace(
        "    return value;\n}\n\n// Sums over all readings", "    return half_as_float(half);\n}\n\n//"
    )
    header = f'#include "{Path(__file__).with_name("emulated_cuda.h")}"\n'
    (folder / "crf.cpp").write_text(header + source + _ENTRIES, encoding="utf-8")
    library = folder / "crf.so"
    flags = ["-std=c++20", "-O2", "-shared", "-fPIC", "-pthread"]
    subprocess.run([compiler, *flags, folder / "crf.cpp", "-o", library], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture
def on_cpu(emulated, monkeypatch) -> None:
    def launch(
        name: str, shape: Sequence[int], tensors: Sequence[Tensor], reals: Sequence[float], numbers: Sequence[int]
    ) -> None:
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
        run = getattr(emulated, f"run_{name}")
        run(shape[0], 64, *pointers, *map(ctypes.c_float, reals), *map(ctypes.c_int, numbers))

    monkeypatch.setattr(crf_cuda, "_launch", launch)


@pytest.mark.parametrize("texts", [*BATCHES, []])
def test_the_sums_and_shares_are_those_of_torch(on_cpu, texts: list[list[Word]]) -> None:
    """Numerators, denominators and shares agree: several pronunciations, doubled phonemes, an empty text, one that does
    not fit, lines of different lengths, three phonemes and thirty-nine."""
    symbols, most = (4, 6) if texts else (40, 40)
    texts = texts or random_texts(np.random.default_rng(1), 4, 6)
    lm, graphs = random_lm(symbols - 1), graphs_of(texts)
    p = torch.softmax(2 * torch.randn(len(texts), most, symbols, generator=torch.Generator().manual_seed(1)), dim=-1)
    lengths = [most - 2 * line for line in range(len(texts))]
    ours, theirs = torch.zeros_like(p), torch.zeros_like(p)
    sums = crf_cuda.add_shares(p, lengths, graphs, lm, -1.3, 1.0, 0.0, ours)
    expected = crf_torch.add_shares(p, lengths, graphs, lm, -1.3, 1.0, 0.0, theirs)
    for mine, other in zip(sums, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
