"""Many files: hours of speech per hour, in one process and more, over Ray, beside a peer; and ten thousand short ones.

    batch.py speed MANIFEST        the same files in each way, after a fifth of them, so without what starting takes:
                                   per hour, and per hour of a processor's core, which others on the machine change less
    batch.py many MANIFEST         10,000 clips of 1 to 2 s: memory as it goes on, and a worker killed in the middle

`many` runs once with processes and once over Ray (on this machine), kills a worker of each, and compares every result.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
from speech import RATE_HZ, load_speech, machine

from asr.text.normalize import normalize
from asr.text.score import ErrorCount, count_word_errors

WORKER = Path(__file__).parent / "batch_worker.py"
FILE_S = 30.0
WAYS = [  # name, cores, what the worker is told
    ("asr, in one process", 1, ["here"]),
    ("asr --ray local --jobs 1", 1, ["ray", "1"]),
    ("asr --jobs 2", 2, ["jobs", "2"]),
    ("asr --ray local --jobs 2", 2, ["ray", "2"]),
]
PEERS = [("moonshine-voice tiny", 1, ["moonshine"]), ("faster-whisper tiny.en", 1, ["faster-whisper"])]


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", "NONE"))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def write_talks(folder: Path, manifest: Path, minutes: float) -> dict[str, str]:
    """Recordings of half a minute and more, and what is said in each."""
    audio, texts = load_speech(manifest, 60 * minutes)
    said: dict[str, str] = {}
    parts: list[int] = []
    for number in range(len(audio)):
        parts.append(number)
        if sum(len(audio[part]) for part in parts) >= FILE_S * RATE_HZ or number == len(audio) - 1:
            name = f"{len(said):04}.wav"
            write_wav(folder / name, np.concatenate([audio[part] for part in parts]))
            said[name] = " ".join(texts[part] for part in parts)
            parts = []
    return said


def measure_speed(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = write_talks(folder, options.manifest, options.minutes)
        few = dict(list(said.items())[: options.peer_files])
        print(f"{machine()}; {len(said)} files of about {FILE_S:.0f} s; WER of the first {len(few)}")
        columns = f"{'cores':>6}{'files':>7}{'h/h':>8}{'h/core-h':>10}{'first s':>9}{'whole s':>9}{'WER %':>8}"
        print(f"{'':<26}{columns}", flush=True)
        ways = [(sys.executable, said, way) for way in WAYS * options.times]
        if options.peers is not None:
            ways += [(str(options.peers), few, way) for way in PEERS]
        for python, files, (title, cores, arguments) in ways:
            paths = [str(folder / file) for file in files]
            command = [python, str(WORKER), *arguments]
            allowed = sorted(os.sched_getaffinity(0))[:cores]
            done = subprocess.run(
                ["taskset", "-c", ",".join(map(str, allowed)), *command],
                input=json.dumps(paths),
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            if done.returncode:
                print(f"{title:<26}  failed: {done.stderr.strip().splitlines()[-1]}")
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            errors = sum(
                (count_word_errors(few[file], normalize(result["texts"][str(folder / file)])) for file in few),
                ErrorCount(),
            )
            print(
                f"{title:<26}{cores:>6}{len(files):>7}{result['rate']:>8.1f}{result['per_cpu']:>10.1f}"
                f"{result['first_s']:>9.1f}{result['whole_s']:>9.1f}{100 * errors.rate:>8.1f}",
                flush=True,
            )


def write_clips(folder: Path, manifest: Path, count: int) -> None:
    """Pieces of speech of one to two seconds."""
    audio, _ = load_speech(manifest, 1_800)
    samples, rng = np.concatenate(audio), np.random.default_rng(0)
    for number in range(count):
        length = int(rng.uniform(1.0, 2.0) * RATE_HZ)
        begin = int(rng.integers(0, len(samples) - length))
        place = folder / f"{number // 100:03}"
        place.mkdir(exist_ok=True)
        write_wav(place / f"{number:05}.wav", samples[begin : begin + length])


def children(pid: int) -> list[int]:
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found += [child, *children(child)]
    return found


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def resident_mib(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)
    except OSError:
        return 0.0


def run_many(folder: Path, output: Path, arguments: list[str], mark: str) -> None:
    """Transcribe all of a folder, with a worker killed when half is done; ``mark`` is in the title of workers."""
    command = [sys.executable, "-m", "asr.cli", "transcribe", "--recursive", "--jobs", "2", *arguments]
    total, killed, told = sum(1 for _ in folder.rglob("*.wav")), False, 0
    with subprocess.Popen([*command, "--output", str(output), str(folder)], stderr=subprocess.PIPE, text=True) as run:
        began_s = time.monotonic()
        try:
            while run.poll() is None:
                time.sleep(0.5)
                done = sum(1 for _ in output.rglob("*.txt")) if output.exists() else 0
                workers = [pid for pid in children(run.pid) if mark in title_of(pid)]
                if done >= (told + 1) * total // 10:
                    told = 10 * done // total
                    sizes = " ".join(f"{resident_mib(pid):.0f}" for pid in workers)
                    print(
                        f"{time.monotonic() - began_s:>8.0f} s{done:>8} files   MiB: {resident_mib(run.pid):.0f}, "
                        f"workers {sizes}",
                        flush=True,
                    )
                if not killed and workers and done >= total // 2:
                    os.kill(workers[0], signal.SIGKILL)
                    killed = True
                    print("           a worker is killed", flush=True)
        except KeyboardInterrupt:  # the next run goes on from here
            run.send_signal(signal.SIGINT)
        assert run.stderr is not None
        print(f"status {run.returncode}: {run.stderr.read().strip()}", flush=True)


def measure_many(options: argparse.Namespace, folder: Path) -> None:
    print(f"{machine()}; {options.files} files of 1 to 2 s, 2 workers")
    clips = folder / "clips"
    if not clips.exists():
        clips.mkdir()
        write_clips(clips, options.manifest, options.files)
    ways = {"jobs": ([], "spawn_main"), "ray": (["--ray", "local"], "ray::Worker")}
    for way in ways if options.way is None else [options.way]:
        arguments, mark = ways[way]
        print(f"asr transcribe --recursive --jobs 2 {' '.join(arguments)}", flush=True)
        run_many(clips, folder / way, arguments, mark)
    if all((folder / way).exists() for way in ways):
        one, other = (results_in(folder / way) for way in ways)
        same = sum(other.get(file) == text for file, text in one.items())
        print(f"results: {len(one)} and {len(other)}, the same: {same}")


def results_in(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "many"))
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0, help="of speech, as far as there is so much")
    parser.add_argument("--times", type=int, default=1, help="that `speed` measures each way, one after another")
    parser.add_argument("--files", type=int, default=10_000, help="for `many`")
    parser.add_argument("--way", choices=("jobs", "ray"), help="the one way that `many` tries (default: both)")
    parser.add_argument("--folder", type=Path, help="for what `many` writes, kept for its next run (default: none is)")
    parser.add_argument("--peers", type=Path, help="Python of an environment with the peers installed")
    parser.add_argument("--peer-files", type=int, default=12, help="files that peers get, and whose WER is told")
    options = parser.parse_args()
    if options.what == "speed":
        measure_speed(options)
    elif options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        measure_many(options, options.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure_many(options, Path(folder))


if __name__ == "__main__":
    main()
