"""One stream on one core: real-time factor and word error rate, beside peers, same files, same run.

Every engine runs in a process of its own on the same core, is warmed up with the first utterance, and
then gets each utterance in 100 ms chunks as a live stream. RTF is CPU time over audio time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from speech import RATE_HZ, load_speech, machine

from asr.text.normalize import normalize
from asr.text.score import ErrorCount, count_word_errors

WORKER = Path(__file__).parent / "single_stream_worker.py"
ENGINES = {
    "asr": ("own", ["asr"]),
    "asr, greedy": ("own", ["asr", "0"]),
    "asr, float32": ("own", ["asr-float32"]),
    "moonshine-voice tiny": ("peer", ["moonshine"]),
    "pocketsphinx": ("peer", ["pocketsphinx"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", help="speech to use (default: the tests' clips)")
    parser.add_argument("--seconds", type=float, default=300.0, help="how much of it")
    parser.add_argument("--peers", type=Path, help="Python of an environment with the peers installed")
    options = parser.parse_args()
    audio, references = load_speech(options.manifest, options.seconds)
    seconds = sum(map(len, audio)) / RATE_HZ
    print(f"{machine()}; {len(audio)} utterances, {seconds:.0f} s, 100 ms chunks, one core")
    print(f"{'engine':<24}{'RTF':>8}{'x real time':>13}{'WER %':>8}{'peak MiB':>10}")
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.npz"
        np.savez(path, *audio)
        for name, (where, arguments) in ENGINES.items():
            python = sys.executable if where == "own" else options.peers
            if python is None:
                continue
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            command = [str(python), str(WORKER), str(path), str(core), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                print(f"{name:<24}  failed: {done.stderr.strip().splitlines()[-1]}")
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            errors = sum(
                (count_word_errors(r, normalize(t)) for r, t in zip(references, result["texts"], strict=True)),
                ErrorCount(),
            )
            rtf = result["cpu_s"] / seconds
            print(
                f"{name:<24}{rtf:>8.4f}{1 / rtf:>13.0f}{100 * errors.rate:>8.1f}{result['peak_mib']:>10.0f}", flush=True
            )


if __name__ == "__main__":
    main()
