"""An hour of `asr mic` on a terminal: its memory, and whether its clock and the times of its words stay together.

The microphone is the tests' stand-in, which plays speech again and again, twenty times as fast as it was spoken; all
the rest is as it always is, the screen and the notes on the disk too. Every word comes once a round, so that the rounds
can be compared: prints a row for each five minutes of sound.
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
from collections import defaultdict
from pathlib import Path

import numpy as np
from speech import RATE_HZ, ROOT, load_speech, machine

sys.path.insert(0, str(ROOT / "tests"))
from mic_process import Terminal, start, write_wav

WINDOW_S = 300


def resident_mib(process: int) -> float:
    """Memory of a process that is in RAM."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this benchmark reads /proc: run it on Linux")


def clock_s(lines: list[str]) -> float:
    """The clock of the status line; -1 if there is none."""
    parts = lines[-1].split("  ")[0].split(":") if lines else []
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return -1.0
    return 3600 * int(parts[0]) + 60 * int(parts[1]) + int(parts[2])


def word_drift(notes: Path, round_s: float) -> tuple[int, float]:
    """Words whose place in the round can be told, and how far the last round is from the first, in seconds.

    A word is the same in another round if it and its neighbours are and its place differs by less than a second.
    """
    words = [word for line in notes.read_text().splitlines() for word in json.loads(line)["words"]]
    places: dict[tuple[str, ...], list[tuple[int, float]]] = defaultdict(list)
    for before, word, after in zip(words, words[1:], words[2:], strict=False):
        number, place_s = divmod(word["start_s"], round_s)
        places[before["text"], word["text"], after["text"]].append((int(number), place_s))
    last = max(number for found in places.values() for number, _ in found)
    drifts = []
    for found in places.values():
        early = [place_s for number, place_s in found if number < 3]
        late = [place_s for number, place_s in found if number > last - 3]
        if early and late and abs(np.median(late) - np.median(early)) < 1:
            drifts.append(float(np.median(late) - np.median(early)))
    return len(drifts), float(np.median(drifts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", help="speech to use (default: the tests' clips)")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--speed", type=float, default=20.0, help="times as fast as real time (default: 20)")
    options = parser.parse_args()

    audio, _ = load_speech(options.manifest, 120.0)
    pause = np.zeros(RATE_HZ, dtype=np.float32)
    loop = np.concatenate([part for clip in audio for part in (clip, pause)])
    loop = np.concatenate([loop, np.zeros(-len(loop) % RATE_HZ, dtype=np.float32)])
    round_s = len(loop) / RATE_HZ
    rounds = -(-options.minutes * 60 // int(round_s))
    with tempfile.TemporaryDirectory() as folder:
        wav, notes = write_wav(Path(folder) / "loop.wav", loop, 48_000), Path(folder) / "notes.jsonl"
        terminal = Terminal()
        environment = {"FAKE_MIC_SPEED": str(options.speed), "FAKE_MIC_TIMES": str(rounds), "PATH": os.environ["PATH"]}
        process = start("--output", notes, wav=wav, env=environment, stdout=terminal.end, stderr=subprocess.PIPE)
        print(f"{machine()}; {round_s:.0f} s of speech, {rounds} times, {options.speed:.0f} times as fast as spoken")
        print(f"{'sound':>10}{'CPU ms per s':>14}{'resident MiB':>14}{'utterances':>12}{'clock - last word s':>21}")
        rows: list[float] = []
        used_s, due_s = 0.0, WINDOW_S
        while due_s <= options.minutes * 60:
            terminal.wait(lambda lines, due_s=due_s: clock_s(lines) >= due_s, 3600)
            shown_s, lines = clock_s(terminal.lines), notes.read_text().splitlines()
            spent_s = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().split()[13:15])) / 100
            rows.append(resident_mib(process.pid))
            lag_s = shown_s - json.loads(lines[-1])["words"][-1]["end_s"]
            cost = 1000 * (spent_s - used_s) / WINDOW_S
            label = f"{due_s // 60} min"
            print(f"{label:>10}{cost:>14.1f}{rows[-1]:>14.1f}{len(lines):>12}{lag_s:>21.1f}", flush=True)
            used_s, due_s = spent_s, due_s + WINDOW_S
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        terminal.close()
        words, drift_s = word_drift(notes, round_s)
    print(f"memory, last against first: {rows[-1] - rows[0]:+.1f} MiB")
    print(f"{words} words, last rounds against first: {1000 * drift_s:+.0f} ms")
    print(errors.decode().strip() or "no sound was lost")


if __name__ == "__main__":
    began_s = time.monotonic()
    main()
    print(f"{time.monotonic() - began_s:.0f} s of wall time")
