"""Files of arrays: written whole, and read where they lie."""

from __future__ import annotations

import os

import numpy as np
import pytest

from asr.mapped_arrays import MappedArrays, save_arrays


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_a_model_may_be_read_by_whoever_may_read_new_files(tmp_path, umask) -> None:
    """A file that is made by one user can be served by another, as the umask says."""
    before = os.umask(umask)
    try:
        save_arrays(tmp_path / "model.safetensors", {"numbers": np.arange(3)})
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is mapped")
def test_a_file_in_use_can_be_written_anew(tmp_path) -> None:
    """Who reads a file keeps what it held when another takes its name; nothing else is left beside it."""
    path = tmp_path / "model.safetensors"
    save_arrays(path, {"numbers": np.arange(3)}, {"format": "1"})
    old = MappedArrays(path)
    save_arrays(path, {"numbers": np.arange(5, 8)}, {"format": "2"})
    new = MappedArrays(path)
    assert old.arrays["numbers"].tolist() == [0, 1, 2]
    assert new.arrays["numbers"].tolist() == [5, 6, 7]
    assert (old.metadata, new.metadata) == ({"format": "1"}, {"format": "2"})
    assert list(tmp_path.iterdir()) == [path]
