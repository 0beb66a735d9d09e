"""The acoustic model: its state is all its memory, and its delay is what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from types import FunctionType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ConfigError
from asr.library import has_tiles
from asr.network import packed_block, packed_kernel, packed_tile, packed_weights
from asr.network.float_model import FloatModel
from asr.network.model import AcousticModel, ModelState
from asr.network.quantized import QuantizedModel
from asr.network.shape import ModelOptions
from asr.network.state import StreamState
from asr.train.bfloat16 import has_bfloat16
from asr.train.four_bits import coarse_arrays

CELLS = [("lstm", 1), ("gru", 1), ("rnn", 1), ("lstm", 2)]  # and how many steps they take as one


def small_model(cell: str = "lstm", lookahead_ms: int = 90, stacked: int = 1) -> AcousticModel:
    torch.manual_seed(1)
    options = ModelOptions(
        pieces=30,
        cell=cell,  # type: ignore[arg-type]
        layers=2,
        blocks=3,
        width=48,
        conv_width=32,
        stacked=stacked,
        lookahead_ms=lookahead_ms,
    )
    model = AcousticModel(options).eval()
    with torch.no_grad():
        model.set_normalisation(torch.full((80,), -6.0), torch.full((80,), 4.0))
        if model.stack is not None:  # whose weights begin as zeros
            torch.nn.init.normal_(model.stack.weight, std=0.1)
    return model


def frames(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, length, 80, generator=torch.Generator().manual_seed(seed)) * 4 - 6


@pytest.mark.parametrize(("cell", "stacked"), CELLS)
@torch.inference_mode()
def test_chunks_give_what_the_whole_gives(cell, stacked) -> None:
    """Carrying the state, three chunks of unequal length give the logits and the state of one call."""
    model = small_model(cell, stacked=stacked)
    x = frames(2, 60)
    whole, after = model(x, model.initial_state(2))
    state, parts = model.initial_state(2), []
    for start, end in [(0, 6), (6, 36), (36, 60)]:
        logits, state = model(x[:, start:end], state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
    for got, expected in zip(state.tensors(), after.tensors(), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="no bfloat16 recurrent layers on this CPU")
def test_bfloat16_keeps_the_gradients_of_long_batches() -> None:
    """Trained in bfloat16, a batch of 6,400 steps gives the norms' weights the gradients that float32 gives."""
    model = small_model().train()
    x = frames(16, 1200)

    def gradients(bf16: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits, _ = model(x, model.initial_state(16))
        (logits.float() - 1).square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if "norm" in name and p.grad is not None}

    model.options = ModelOptions(**{**vars(model.options), "dropout": 0.0})
    exact = gradients(bf16=False)
    for name, gradient in gradients(bf16=True).items():
        assert (gradient - exact[name]).norm() < 0.05 * exact[name].norm(), name


@pytest.mark.parametrize("lookahead_ms", [0, 30, 120, 180])
@torch.inference_mode()
def test_the_output_sees_its_lookahead_and_no_further(lookahead_ms) -> None:
    """A change at one step reaches the outputs from that step on, which speak of `delay` steps before it."""
    model = small_model(lookahead_ms=lookahead_ms)
    x = frames(1, 60)
    changed = x.clone()
    changed[:, 30:] += torch.randn(30, 80)  # from network step 10 on
    a, _ = model(x, model.initial_state())
    b, _ = model(changed, model.initial_state())
    assert torch.equal(a[:, :10], b[:, :10])
    assert not torch.equal(a[:, 10], b[:, 10])
    # Without the blocks' convolutions only the step that an output speaks of is left: the change comes later.
    for block in model.blocks:
        block.weight.zero_()
    a, _ = model(x, model.initial_state())
    b, _ = model(changed, model.initial_state())
    arrives = 10 + model.options.delay
    assert torch.equal(a[:, :arrives], b[:, :arrives])
    assert not torch.equal(a[:, arrives], b[:, arrives])


@torch.inference_mode()
def test_the_level_of_a_recording_is_soon_forgotten() -> None:
    """Twenty decibels more leave the normalised frames nearly as they were, once some seconds have passed."""
    model = small_model()
    x = frames(1, 1_500)
    (quiet, _, _), (loud, _, _) = (
        model.normalise(v, model.initial_state().mean, model.initial_state().count) for v in (x, x + 4.6)
    )
    assert (loud - quiet)[:, -1].abs().max() < 0.1 < (loud - quiet)[:, 0].abs().max()


@torch.inference_mode()
def test_the_running_mean_is_the_same_in_any_pieces() -> None:
    """Past the point where it starts to forget, the running mean does not depend on how frames were grouped."""
    model = small_model()
    x = frames(2, 3_000)
    state = model.initial_state(2)
    whole = model.normalise(x, state.mean, state.count)
    mean, count, parts = state.mean, state.count, []
    for piece in x.split(333, dim=1):
        normal, mean, count = model.normalise(piece, mean, count)
        parts.append(normal)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(count, whole[2])


def test_states_can_be_stacked_and_split() -> None:
    """Streams at different points advance together as they do alone."""
    model = FloatModel(small_model())
    x = frames(3, 24).numpy()
    states = []
    for i in range(3):
        _, state = model(x[i : i + 1, : 3 * (i + 1)], model.initial_state())
        states.append(state)
    logits, after = model(x[:, 12:], StreamState.stack(states))
    for i, own in enumerate(after.split()):
        alone, expected = model(x[i : i + 1, 12:], states[i])
        np.testing.assert_allclose(logits[i : i + 1], alone, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(own.h, expected.h, atol=1e-5, rtol=1e-5)


def test_the_state_does_not_grow() -> None:
    """After any number of frames the state holds as many numbers as before the first."""
    model = small_model()
    state = model.initial_state()

    def size(s: ModelState) -> int:
        return sum(part.numel() for part in s.tensors())

    for length in (3, 300):
        _, after = model(frames(1, length), state)
        assert size(after) == size(state)


@pytest.mark.parametrize(("cell", "stacked"), CELLS)
def test_the_integer_kernel_follows_the_network(cell, stacked) -> None:
    """The 8-bit kernel's logits lie within a small part of the spread of the network's own, from the same state."""
    network = small_model(cell, stacked=stacked)
    x = frames(4, 90).numpy()
    whole, quantized = FloatModel(network), QuantizedModel(network.options, network.arrays())
    for a, b in zip(whole.initial_state(4).arrays(), quantized.initial_state(4).arrays(), strict=True):
        assert np.array_equal(a, b)
    expected, state = whole(x, whole.initial_state(4))
    got, quantized_state = quantized(x, quantized.initial_state(4))
    assert np.abs(got - expected).mean() < 0.04 * expected.std()
    np.testing.assert_allclose(quantized_state.frames, state.frames, atol=1e-5, rtol=1e-5)
    assert np.abs(quantized_state.h - state.h).mean() < 0.02


@pytest.mark.parametrize(("cell", "stacked"), CELLS)
def test_the_integer_kernel_is_exact_in_any_company(cell, stacked) -> None:
    """Alone or among others, in one call or in many, a stream's logits are the same in every bit."""
    network = small_model(cell, stacked=stacked)
    model = QuantizedModel(network.options, network.arrays())
    x = frames(5, 48).numpy()
    together, _ = model(x, model.initial_state(5))
    for i in range(5):
        state, parts = model.initial_state(), []
        for start in range(0, 48, 6):
            logits, state = model(x[i : i + 1, start : start + 6], state)
            parts.append(logits)
        assert np.array_equal(np.concatenate(parts, axis=1)[0], together[i])


def test_frames_must_fill_steps() -> None:
    """Frames that are not a multiple of three are refused."""
    network = small_model()
    model = QuantizedModel(network.options, network.arrays())
    with pytest.raises(ValueError, match="multiples of 3"):
        network(frames(1, 4), network.initial_state())
    with pytest.raises(ValueError, match="multiples of 3"):
        model(frames(1, 4).numpy(), model.initial_state())
    two = small_model(stacked=2)
    with pytest.raises(ValueError, match="multiples of 6"):
        two(frames(1, 3), two.initial_state())


@torch.inference_mode()
def test_two_steps_as_one_give_two_rows() -> None:
    """A network whose recurrent layers take two steps as one writes as many rows as another, tokens before pieces."""
    model = small_model(stacked=2)
    x = frames(1, 24)
    logits, _ = model(x, model.initial_state())
    assert logits.shape == (1, 8, 59)
    tokens, _ = model(x, model.initial_state(), pieces=False)
    assert torch.equal(tokens, logits[:, :, :29])
    # What the output gives lies as the file has it: the first step's tokens, the second's, then pieces likewise.
    bias = torch.arange(118.0)
    model.output.weight.zero_()
    model.output.bias.copy_(bias)
    logits, _ = model(x, model.initial_state())
    assert torch.equal(logits[0, 0], torch.cat([bias[:29], bias[58:88]]))
    assert torch.equal(logits[0, 1], torch.cat([bias[29:58], bias[88:118]]))


def test_options_that_cannot_work_are_refused() -> None:
    """The error names the choices."""
    with pytest.raises(ConfigError, match="lstm, gru, rnn"):
        ModelOptions(cell="transformer")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="multiple of 30"):
        ModelOptions(lookahead_ms=100)
    with pytest.raises(ConfigError, match="stacked must be one of 1, 2"):
        ModelOptions(stacked=3)


@pytest.mark.parametrize(("cell", "stacked", "four_bits"), [*((*each, False) for each in CELLS), ("lstm", 1, True)])
def test_many_streams_at_once_give_the_same_bits(cell, stacked, four_bits, monkeypatch) -> None:
    """The kernel for any CPU and the one for x86 agree in every bit, of logits and of state, at each step; so they do
    where the layers' weights have four bits."""
    torch.manual_seed(3)
    # As wide as AMX wants it, but for the first convolution and the second.
    options = ModelOptions(
        tokens=9, pieces=30, cell=cell, layers=2, blocks=2, width=64, conv_width=24, lookahead_ms=60, stacked=stacked
    )
    model = AcousticModel(options).eval()
    model.set_normalisation(torch.randn(80), torch.rand(80) + 0.5)
    weights = coarse_arrays(model.arrays()) if four_bits else model.arrays()
    frames = [torch.randn(7, 12, 80).numpy() * 3 for _ in range(4)]
    results = []
    for own in [False, *([True] if packed_weights.available() else [])]:
        monkeypatch.setattr("asr.network.packed_weights.available", lambda own=own: own)
        quantized = QuantizedModel(model.options, weights)
        state = quantized.initial_state(7)
        for part in frames:
            logits, state = quantized(part, state)
        results.append([logits, *state.arrays()])
    assert all(np.array_equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
    assert results[0][0].std() > 0


@pytest.fixture(scope="module", params=["amx_int8", "avx512_vnni", "avx2"])
def products(request):
    """Our own products, of weights in bytes and in halves of them, compiled for one set of instructions or another."""
    by_blocks = request.param == "amx_int8"
    if not (has_tiles() if by_blocks else packed_weights.has(request.param)):
        pytest.skip(f"this CPU has no {request.param}")
    from numba import njit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_block, "_for_tiles", lambda: by_blocks)
        patch.setattr(packed_tile, "_for_vnni", lambda: request.param != "avx2")
        scope = {**packed_kernel.products.py_func.__globals__, "_unpack": packed_tile.make_unpack()}
        for name, rows in (("one", 1), ("four", 4)):
            scope |= {f"_tile_of_{name}": packed_tile.make_tile(rows)}
            scope |= {f"_half_tile_of_{name}": packed_tile.make_tile(rows, halves=True)}
        for name in ("has_blocks", "begin_blocks", "end_blocks", "block"):
            scope[f"_{name}"] = getattr(packed_block, f"make_{name}")()
        for name in ("_begin", "_of_panel", "products", "products_of_halves"):
            python = getattr(packed_kernel, name).py_func
            scope[name] = njit(_nrt=False)(FunctionType(python.__code__, scope, name))
        panels = packed_weights.pack_matrix(np.zeros((1, 8), np.int8))
        rows, sums = np.zeros((1, 8), np.int8), np.zeros((1, 64), np.int32)
        scope["products"](panels.weight, panels.begin, rows, sums)
        halves = packed_weights.halve(panels)
        scope["products_of_halves"](halves.weight, halves.levels, halves.begin, rows, np.zeros(512, np.int8), sums)
        yield scope["products"], scope["products_of_halves"]


@given(st.integers(1, 40), st.integers(1, 40) | st.sampled_from([16, 32, 48]), st.integers(1, 130), st.integers(0, 99))
def test_our_own_product_is_exact(products, count, depth, outputs, seed) -> None:
    """For any number of rows, inputs and outputs, the extremes among them, the sums are those of plain integers."""
    random = np.random.default_rng(seed)
    pick = random.choice if seed % 2 else lambda ends, size: random.integers(ends[0], ends[1] + 1, size)
    weight = pick([-127, 127], (outputs, packed_weights.DEPTH * depth)).astype(np.int8)
    rows = pick([-128, 127], (count, packed_weights.DEPTH * depth)).astype(np.int8)
    panels = packed_weights.pack_matrix(weight)
    sums = np.empty((count, panels.begin.size), np.int32)
    products[0](panels.weight, panels.begin, rows, sums)
    assert np.array_equal(sums[:, :outputs], rows.astype(np.int32) @ weight.T.astype(np.int32))


@given(
    st.integers(1, 40),
    st.integers(1, 20) | st.sampled_from([8, 16, 24]),
    st.integers(1, 130),
    st.integers(1, 15),
    st.integers(0, 99),
)
def test_weights_in_halves_of_bytes_give_the_same_sums(products, count, pairs, outputs, different, seed) -> None:
    """Of at most sixteen different weights, zero for padding among them, half a byte each gives the exact sums."""
    random = np.random.default_rng(seed)
    levels = random.choice(np.arange(-127, 128), different, replace=False)
    inputs = 2 * packed_weights.DEPTH * pairs
    weight = random.choice(levels, (outputs, inputs)).astype(np.int8)
    rows = random.integers(-128, 128, (count, inputs)).astype(np.int8)
    halves = packed_weights.halve(packed_weights.pack_matrix(weight))
    assert halves is not None
    assert halves.weight.size == -(-outputs // 64) * 64 * inputs // 2
    sums, room = np.empty((count, halves.begin.size), np.int32), np.empty(64 * inputs, np.int8)
    products[1](halves.weight, halves.levels, halves.begin, rows, room, sums)
    assert np.array_equal(sums[:, :outputs], rows.astype(np.int32) @ weight.T.astype(np.int32))


def test_more_than_sixteen_weights_stay_in_bytes() -> None:
    """Half a byte cannot tell seventeen weights apart, nor has a matrix of an odd number of steps halves."""
    weight = np.resize(np.arange(17, dtype=np.int8), (64, 8))
    assert packed_weights.halve(packed_weights.pack_matrix(weight)) is None
    assert packed_weights.halve(packed_weights.pack_matrix(np.minimum(weight, 15))) is not None
    assert packed_weights.halve(packed_weights.pack_matrix(np.zeros((64, 4), np.int8))) is None


def test_kernels_are_kept_where_nothing_else_can_be_written(tmp_path) -> None:
    """A service without a home and with read-only packages loads, and keeps what it compiled in a folder of its own."""
    program = """
import numba.core.caching as caching
allowed = caching._CacheLocator.ensure_cache_path
def ensure(self):
    if not self.get_cache_path().startswith(TEMPORARY):
        raise OSError("read-only")
    allowed(self)
caching._CacheLocator.ensure_cache_path = ensure
from asr.compiler import jit
def double(x):
    return 2 * x
print(jit()(double)(21.0))
""".replace("TEMPORARY", repr(str(tmp_path)))
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "42.0\n", done.stderr
    assert list(tmp_path.rglob("*.nbi"))
