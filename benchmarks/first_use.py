"""What the command costs before it does anything useful: time, processor and memory of first and later starts.

Each command runs in a process of its own. `cold` is with nothing compiled before and no cache, `warm` with what the
runs before it have left; `Numba` without the library that the package brings, as where there is none for the machine.
With --install, a virtual environment is made and its size and that of the wheels in it are measured: that needs a
package index.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

from machine import machine

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "tests/data/librispeech-00217.opus"
MIB = 2**20
RUN = [sys.executable, "-m", "asr.cli"]
# A program's memory once it has transcribed a file; it waits so that another may be measured beside it.
HOLD = """
import sys, asr
recognizer = asr.load()
recognizer.transcribe(sys.argv[1])
print("done", flush=True)
sys.stdin.readline()
fields = [line.split() for line in open("/proc/self/smaps_rollup").readlines()[1:]]
kib = {name: int(size) for name, size, *_ in fields}
print(kib["Rss:"], kib["Pss:"], kib["Private_Clean:"] + kib["Private_Dirty:"], kib["Private_Dirty:"])
"""


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Wall-clock and processor seconds of a command, and its greatest resident memory in MiB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def show(name: str, command: list[str], environment: dict[str, str], times: int) -> None:
    """The fastest of some runs."""
    wall_s, cpu_s, mib = min(measure(command, environment) for _ in range(times))
    print(f"{name:<34}{wall_s:>8.2f}{cpu_s:>8.2f}{mib:>8.0f}", flush=True)


def show_microphone(environment: dict[str, str], times: int) -> None:
    """Until ``asr mic`` starts to listen, to a sound card that is none."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        wav, ready = Path(folder) / "speech.wav", Path(folder) / "ready"
        with wave.open(str(wav), "wb") as file:
            file.setparams((1, 2, 48_000, 0, "NONE", ""))
            file.writeframes(bytes(2 * 48_000))
        imitation = ROOT / "tests/fake_sounddevice/sounddevice.py"
        (Path(folder) / "sounddevice.py").write_text(
            f"import pathlib\nexec(pathlib.Path({str(imitation)!r}).read_text())\n"
            f"def start(self, go=RawInputStream.start): pathlib.Path({str(ready)!r}).touch(); go(self)\n"
            "RawInputStream.start = start\n"
        )
        heard = {**environment, "PYTHONPATH": folder, "FAKE_MIC": str(wav)}
        for _ in range(times):
            ready.unlink(missing_ok=True)
            began = time.perf_counter()
            process = subprocess.Popen([*RUN, "mic"], env=heard, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not ready.exists() and process.poll() is None:
                time.sleep(0.005)
            found.append(time.perf_counter() - began)
            process.terminate()
            process.wait()
    print(f"{'asr mic, until it listens':<34}{min(found):>8.2f}")


def show_memory(environment: dict[str, str]) -> None:
    """Of one process, and of two at once, in MiB."""
    print("after a transcription                  RSS     PSS  private  written to")
    for count in (1, 2):
        pipe = subprocess.PIPE
        processes = [
            subprocess.Popen([sys.executable, "-c", HOLD, str(CLIP)], env=environment, stdin=pipe, stdout=pipe)
            for _ in range(count)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        told = [process.communicate(b"\n")[0].split() for process in processes]  # all of them there while the first is
        rss, pss, private, dirty = (float(kib) / 1024 for kib in told[0])
        print(f"{f'one of {count}':<34}{rss:>8.0f}{pss:>8.0f}{private:>9.0f}{dirty:>12.0f}")


def show_install() -> None:
    """A fresh virtual environment with the package in it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        constraints = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
        pip = [str(place / "venv/bin/pip"), "--disable-pip-version-check", "-q"]
        before = size(place / "venv")
        subprocess.run([*pip, "wheel", *constraints, "-w", str(place / "wheels"), str(ROOT)], check=True)
        wheels = sorted((place / "wheels").glob("*.whl"), key=lambda path: -path.stat().st_size)
        subprocess.run([*pip, "install", "--no-index", "--no-deps", *map(str, wheels)], check=True)
        print(
            f"wheels {size(place / 'wheels') / MIB:.0f} MiB, installed {(size(place / 'venv') - before) / MIB:.0f} MiB"
        )
        for wheel in wheels:
            print(f"  {wheel.name:<78}{wheel.stat().st_size / MIB:>7.1f}")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="runs of each command, of which the fastest counts")
    parser.add_argument("--install", action="store_true", help="measure an installation, too")
    parser.add_argument("--no-numba", action="store_true", help="leave out the runs without the library")
    options = parser.parse_args()
    print(f"{machine()}; seconds of the clock and of processors, greatest resident MiB; best of {options.times}")
    print(f"{'':<34}{'clock':>8}{'CPU':>8}{'MiB':>8}")
    transcribe = [*RUN, "transcribe", str(CLIP)]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        show("asr --version", [*RUN, "--version"], environment, options.times)
        show("asr --help", [*RUN, "--help"], environment, options.times)
        show("asr transcribe, cold", transcribe, environment, 1)
        show("asr transcribe, warm", transcribe, environment, options.times)
        show_microphone(environment, options.times)
        if not options.no_numba:
            numba = {**environment, "ASR_COMPILED": "numba"}
            show("asr transcribe, Numba, cold", transcribe, numba, 1)
            show("asr transcribe, Numba, warm", transcribe, numba, options.times)
        if sys.platform == "linux":
            show_memory(environment)
    if options.install:
        show_install()


if __name__ == "__main__":
    main()
