"""What a report of a fault needs to say: what is installed, on what, and whether it works."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Literal

from asr.errors import AsrError
from asr.version import __version__

State = Literal["ok", "warning", "broken"]

SAMPLE = "self_test.opus"  # two seconds of speech beside this file: see tests/data/README.md
_NEEDED = ("numpy", "numba", "llvmlite", "soxr", "av", "safetensors", "tqdm", "rich", "shtab")
_OPTIONAL = ("sounddevice", "websockets", "h11", "python-multipart", "torch")
_FEATURES = ("avx2", "fma", "avx512f", "avx512vnni", "avx512bf16", "amx-int8", "amx-bf16", "neon", "dotprod", "i8mm")
_CHUNK_S = 0.1
_SLOW, _TOO_SLOW = 0.5, 1.0  # real-time factors: with the first there is no room for anything else


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    state: State  # broken: nothing can be recognised; warning: something else cannot be done, or is slow
    text: str  # for people, in a line
    remedy: str = ""  # what to do, unless all is well
    lines: tuple[str, ...] = ()  # for people, details
    data: dict[str, Any] = field(default_factory=dict)  # the same for programs


def check_all(model: str | None) -> Iterator[Finding]:
    """Check everything, each as it is done. A check that fails in a way nobody foresaw is a finding, too."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("version", _version),
        ("packages", _packages),
        ("processor", _processor),
        ("cache", _cache),
        ("portaudio", _portaudio),
        ("microphones", _microphones),
        ("model", lambda: _model(model)),
        ("self-test", lambda: _self_test(model)),
    ]
    again = "pip install --force-reinstall asr-stream"
    for name, check in checks:
        needed = name not in ("portaudio", "microphones")
        try:
            yield check()
        except AsrError as error:
            yield Finding(name, "broken" if needed else "warning", str(error))
        except Exception as error:
            yield Finding(name, "broken" if needed else "warning", f"{type(error).__name__}: {error}", again)


def _version() -> Finding:
    data = {"asr": __version__, "python": platform.python_version(), "platform": platform.platform()}
    return Finding("version", "ok", f"asr {__version__}, Python {data['python']}, {data['platform']}", data=data)


def _packages() -> Finding:
    found: dict[str, str | None] = {}
    for name in (*_NEEDED, *_OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    missing = [name for name in _NEEDED if found[name] is None]
    text = ", ".join(f"{name} {version}" for name, version in found.items() if version is not None)
    if missing:
        return Finding("packages", "broken", f"missing: {', '.join(missing)}", "pip install asr-stream", data=found)
    return Finding("packages", "ok", text, data=found)


def _processor() -> Finding:
    from llvmlite import binding

    try:
        has: dict[str, bool] = dict(binding.get_host_cpu_features())
    except RuntimeError:  # not known of this kind of processor
        has = {}
    features = [name for name in _FEATURES if has.get(name)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = _processor_name()
    text = f"{name}, {cores} {'core' if cores == 1 else 'cores'}; {', '.join(features) or 'no features that matter'}"
    data = {"name": name, "cores": cores, "features": features}
    return Finding("processor", "ok", text, data=data)


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cache() -> Finding:
    """Where compiled code is kept, and whether it can be."""
    from asr.network import quantized_kernel

    compiled: Any = quantized_kernel.advance
    kept = getattr(getattr(compiled, "dispatcher", compiled), "_cache", None)
    found = getattr(kept, "cache_path", None)
    remedy = "set NUMBA_CACHE_DIR to a folder that can be written; without one, every start compiles for some seconds"
    if found is None:
        return Finding("cache", "warning", "there is no place to keep compiled code", remedy, data={"path": None})
    folder = Path(found)
    data = {"path": str(folder), "writable": False}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("cache", "warning", f"{folder} cannot be written: {error.strerror}", remedy, data=data)
    return Finding("cache", "ok", f"compiled code is kept in {folder}", data={**data, "writable": True})


def _portaudio() -> Finding:
    from asr.cli.sound_library import quiet_libraries, sound_library

    with quiet_libraries():
        library = sound_library()
        text = str(library.get_portaudio_version()[1])
    return Finding("portaudio", "ok", text, data={"version": text})


def _microphones() -> Finding:
    from dataclasses import asdict

    from asr.cli.devices import device_table, find_devices

    devices = find_devices()
    lines = tuple(device_table(devices).splitlines())
    text = f"{len(devices)} {'device' if len(devices) == 1 else 'devices'} to record from"
    return Finding("microphones", "ok", text, lines=lines, data={"devices": [asdict(device) for device in devices]})


def _model(model: str | None) -> Finding:
    """The model's files, whether or not they can be used."""
    folder = Path(str(resources.files("asr.pretrained"))) if model in (None, "english") else Path(str(model))
    files = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_file() and path.suffix in (".safetensors", ".toml", ".txt"):
            with path.open("rb") as file:
                files.append((path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()))
    lines = tuple(f"{name:<22} {size:>11,}  {digest}" for name, size, digest in files)
    data = {
        "path": str(folder),
        "files": [{"name": name, "bytes": size, "sha256": digest} for name, size, digest in files],
    }
    if not files:
        return Finding("model", "broken", f"no model at {folder}", "give the path of a model folder", data=data)
    return Finding("model", "ok", str(folder), lines=lines, data=data)


def _self_test(model: str | None) -> Finding:
    """Two seconds of speech, as they would come from a microphone."""
    import asr
    from asr.audio.audio_file import AudioFile

    began_s = time.perf_counter()
    recognizer = asr.load(model)
    loaded_s = time.perf_counter()
    recognizer.warm_up()
    ready_s = time.perf_counter()
    with resources.as_file(resources.files("asr.cli") / SAMPLE) as path, AudioFile(path) as audio:
        import numpy as np

        samples = np.concatenate(list(audio))
        stream = recognizer.stream(audio.sample_rate_hz)
        chunk = round(audio.sample_rate_hz * _CHUNK_S)
    first_s = time.perf_counter()
    events = [event for at in range(0, len(samples), chunk) for event in stream.accept(samples[at : at + chunk])]
    events += stream.finish()
    factor = (time.perf_counter() - first_s) / stream.position_s
    text = " ".join(event.text for event in events if isinstance(event, asr.Final))
    data = {
        "text": text,
        "audio_s": round(stream.position_s, 3),
        "real_time_factor": round(factor, 4),
        "load_s": round(loaded_s - began_s, 3),
        "compile_s": round(ready_s - loaded_s, 3),
    }
    told = (
        f"heard {text!r} in {stream.position_s:.1f} s of speech at a real-time factor of {factor:.3f}; "
        f"{data['load_s']} s to load, {data['compile_s']} s to compile or read what was"
    )
    if not text:
        remedy = "copy the model folder again" if model else "pip install --force-reinstall asr-stream"
        return Finding(
            "self-test", "broken", f"no word was heard in {stream.position_s:.1f} s of speech", remedy, (), data
        )
    if factor >= _SLOW:
        remedy = "close other programs, or use a faster machine" if sys.maxsize > 2**32 else "use a 64-bit Python"
        return Finding("self-test", "broken" if factor >= _TOO_SLOW else "warning", told, remedy, data=data)
    return Finding("self-test", "ok", told, data=data)
