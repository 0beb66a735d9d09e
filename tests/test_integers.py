"""Weights in 8-bit integers: what is stored is what recognition multiplies."""

import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load_file, save_file

import asr
from asr.bundle import load_bundle, save_bundle
from asr.errors import ModelError
from asr.mapped_arrays import MappedArrays, save_arrays
from asr.network.features import FeatureOptions
from asr.network.integers import PEAK, coarse_rows, quantize_rows, row_scales, widen_rows
from asr.network.model import AcousticModel
from asr.network.quantized import QuantizedModel
from asr.network.shape import ModelOptions
from asr.network.weights import widened
from asr.text.tokens import Tokenizer

_MATRICES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=9),
    elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-6),
)


@given(_MATRICES)
def test_rows_written_out_are_quantised_to_themselves(values) -> None:
    """Integers and peaks of the values that integers stand for are those integers and peaks, in every bit."""
    integers, peaks = quantize_rows(values)
    again, same = quantize_rows(widen_rows(integers, peaks))
    assert np.array_equal(again, integers)
    assert np.array_equal(same, peaks)


@given(_MATRICES)
def test_integers_are_near_the_values(values) -> None:
    """What the integers stand for is within half a step of what was quantised, and the peak is kept."""
    integers, peaks = quantize_rows(values)
    step = row_scales(peaks).reshape(-1, *[1] * (values.ndim - 1))
    assert np.all(np.abs(widen_rows(integers, peaks) - values) <= 0.5001 * step)
    assert np.abs(integers.reshape(len(values), -1)).max() in (0, PEAK)


def test_coarse_rows_are_steps_of_the_deviation() -> None:
    """Coarse integers stand for values at most half a step away, and no integer is larger than it need be."""
    values = np.random.default_rng(2).normal(size=(5, 400)).astype(np.float32)
    integers, peaks = coarse_rows(values, 0.25)
    step = 0.25 * values.std(axis=1)
    assert np.allclose(row_scales(peaks), step)
    assert np.all(np.abs(widen_rows(integers, peaks) - values) <= 0.5001 * step[:, None])


def _small_model() -> tuple[AcousticModel, Tokenizer]:
    tokenizer = Tokenizer.english_characters()
    torch.manual_seed(3)
    return AcousticModel(ModelOptions(tokens=len(tokenizer), layers=2, blocks=2, width=32, conv_width=16)), tokenizer


def test_a_stored_model_is_recognised_with_as_it_was(tmp_path) -> None:
    """The 8-bit network of a folder gives what that of the model gave when it was stored, in every bit."""
    model, tokenizer = _small_model()
    save_bundle(tmp_path, model.options, model.arrays(), FeatureOptions(), tokenizer, {})
    frames = np.random.default_rng(5).normal(size=(2, 36, 80)).astype(np.float32)
    bundle = load_bundle(tmp_path)
    before, after = QuantizedModel(model.options, model.arrays()), QuantizedModel(bundle.shape, bundle.weights)
    logits, state = before(frames, before.initial_state(2))
    again, state_again = after(frames, after.initial_state(2))
    assert np.array_equal(logits, again)
    assert all(np.array_equal(a, b) for a, b in zip(state.arrays(), state_again.arrays(), strict=True))


def test_a_folder_of_the_first_format_loads(tmp_path) -> None:
    """A folder whose weights are all in half precision, as older ones are, loads with those weights."""
    model, tokenizer = _small_model()
    save_bundle(tmp_path, model.options, model.arrays(), FeatureOptions(), tokenizer, {})
    weights = {name: value.half() for name, value in model.state_dict().items() if not name.startswith("middle.")}
    save_file(weights, tmp_path / "weights.safetensors")
    toml = tmp_path / "model.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("format = 3", "format = 1"), encoding="utf-8")
    loaded = widened(load_bundle(tmp_path).weights)
    assert all(np.array_equal(loaded[name], value.float().numpy()) for name, value in weights.items())


def test_a_folder_of_the_second_format_loads(tmp_path) -> None:
    """A folder whose 8-bit integers lie in the file as they are loads with the same weights."""
    model, tokenizer = _small_model()
    save_bundle(tmp_path, model.options, model.arrays(), FeatureOptions(), tokenizer, {})
    weights = load_bundle(tmp_path).weights
    save_arrays(tmp_path / "weights.safetensors", dict(weights))
    toml = tmp_path / "model.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("format = 3", "format = 2"), encoding="utf-8")
    loaded = load_bundle(tmp_path).weights
    assert set(loaded) == set(weights)
    assert all(np.array_equal(loaded[name], value) for name, value in weights.items())


def test_a_matrix_takes_less_than_a_byte_a_weight(tmp_path) -> None:
    """Every matrix of a stored network is in 8-bit integers, deflated, with a peak for each row."""
    model, tokenizer = _small_model()
    save_bundle(tmp_path, model.options, model.arrays(), FeatureOptions(), tokenizer, {})
    stored, loaded = load_file(tmp_path / "weights.safetensors"), load_bundle(tmp_path).weights
    for name, value in model.state_dict().items():
        if value.dim() > 1 and not name.startswith("middle."):
            integers, peaks = quantize_rows(value.numpy())
            assert np.array_equal(loaded[name], integers)
            assert np.array_equal(loaded[f"{name}.peaks"], peaks)
            assert stored[f"{name}.deflated"].dtype == torch.uint8
            assert name not in stored
    largest = "blocks.0.weight"
    assert len(stored[f"{largest}.deflated"]) < 0.95 * loaded[largest].size


@pytest.mark.parametrize("damage", ["other bytes", "cut short", "of fewer"])
def test_damaged_integers_are_told(tmp_path, damage) -> None:
    """Deflated integers that are damaged, or not as many as the network has, name the file and the matrix."""
    model, tokenizer = _small_model()
    save_bundle(tmp_path, model.options, model.arrays(), FeatureOptions(), tokenizer, {})
    path, name = tmp_path / "weights.safetensors", "cells.0.weight_ih_l0.deflated"
    stored = {key: np.array(value) for key, value in MappedArrays(path).arrays.items()}
    packed = stored[name].copy()
    packed[len(packed) // 2] ^= 0x55
    few = np.frombuffer(zlib.compress(bytes(10)), np.uint8)
    stored[name] = {"other bytes": packed, "cut short": stored[name][:-9], "of fewer": few}[damage]
    save_arrays(path, stored)
    with pytest.raises(ModelError, match=r"weights\.safetensors is damaged .*cells\.0\.weight_ih_l0"):
        asr.load(tmp_path)
