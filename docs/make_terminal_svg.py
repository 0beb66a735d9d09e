"""Draws docs/terminal.svg, the picture in the README, from a real run. Run it again when the model changes.

python docs/make_terminal_svg.py tests/data/librispeech-00217.opus
"""

from __future__ import annotations

import subprocess
import sys
from html import escape
from pathlib import Path

import numpy as np

import asr
from asr.audio.audio_file import AudioFile

ROOT = Path(__file__).parent.parent
LINE_PX, CHAR_PX, MARGIN_PX = 20, 8.4, 18
DARK, LIGHT, FAINT, PROMPT = "#e6e6e6", "#8a8f98", "#5c6370", "#7fd88f"


def stream_lines(path: Path) -> list[list[tuple[str, str]]]:
    """What a live display shows: every partial with the time it came, stable text dark, then the final."""
    recognizer = asr.load()
    with AudioFile(path) as audio:
        samples = np.concatenate(list(audio))
        stream = recognizer.stream(audio.sample_rate_hz)
        chunk = audio.sample_rate_hz // 10
    lines = []
    pieces = [samples[i : i + chunk] for i in range(0, len(samples), chunk)]
    for events, at_s in [*((stream.accept(piece), stream.position_s) for piece in pieces), (stream.finish(), None)]:
        for event in events:
            mark = f"{at_s:5.1f} s  " if at_s is not None else "  end    "
            stable = event.text[: event.stable_chars]
            lines.append([(mark, FAINT), (stable, DARK), (event.text[event.stable_chars :], LIGHT)])
    return lines


def main() -> None:
    path = Path(sys.argv[1])
    command = ["asr", "transcribe", str(path)]
    shown = subprocess.run(
        [sys.executable, "-m", "asr.cli", *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [[("$ ", PROMPT), (" ".join(command), DARK)]]
    lines += [[(line, DARK)] for line in shown.stdout.splitlines()]
    lines += [[], [("# the same, as a stream: partial texts as they come, then the final", FAINT)]]
    partials = stream_lines(path)
    every = max(1, len(partials) // 9)
    lines += [*partials[:-1][every - 1 :: every], partials[-1]]
    width = MARGIN_PX * 2 + CHAR_PX * max(sum(len(text) for text, _ in line) for line in lines if line)
    height = MARGIN_PX * 2 + LINE_PX * len(lines)
    rows = []
    for number, line in enumerate(lines):
        spans = "".join(f'<tspan fill="{colour}">{escape(text)}</tspan>' for text, colour in line if text)
        rows.append(
            f'<text x="{MARGIN_PX}" y="{MARGIN_PX + LINE_PX * number + 14}" xml:space="preserve">{spans}</text>'
        )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#1e2127"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )
    (ROOT / "docs" / "terminal.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
