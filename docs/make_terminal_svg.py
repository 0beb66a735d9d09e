"""Draws docs/terminal.svg, the picture in the README, from a real run: `asr mic` on a terminal emulation, with a
PulseAudio of its own whose loudspeaker the microphone hears. Run it again when the model or the screen changes.

    python docs/make_terminal_svg.py tests/data/librispeech-00577.opus tests/data/librispeech-00217.opus

It needs what `.ci/microphone` installs, and a machine that does nothing else meanwhile.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from html import escape
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import pyte  # noqa: E402
from mic_process import Terminal, write_wav  # noqa: E402
from test_real_microphone import SoundServer, pulseaudio  # noqa: E402

from asr.audio.audio_file import AudioFile  # noqa: E402
from asr.audio.resample import StreamResampler  # noqa: E402

COLUMNS, ROWS = 66, 5
LINE_PX, CHAR_PX, MARGIN_PX = 20, 8.4, 18
FRAME_S = 0.2
AFTERWARDS_S = 3.0  # how long the last frame stays
COLOURS = {"default": "#e6e6e6", "faint": "#8a8f98", "green": "#7fd88f", "red": "#e06c75", "brown": "#e5c07b"}
COMMAND = "asr mic"

Row = list[tuple[str, str]]  # runs of one colour: text, colour


class FaintScreen(pyte.HistoryScreen):
    """An emulation that notes faint text, of which pyte knows nothing, as a colour."""

    def select_graphic_rendition(self, *attributes: int) -> None:
        super().select_graphic_rendition(*attributes)
        if 2 in attributes:
            self.cursor.attrs = self.cursor.attrs._replace(fg="faint")
        elif 22 in attributes:
            self.cursor.attrs = self.cursor.attrs._replace(fg="default")


def look(screen: pyte.Screen) -> list[Row]:
    """The screen as it is."""
    rows = []
    for y in range(screen.lines):
        row: Row = []
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            colour = COLOURS.get(cell.fg, COLOURS["default"])
            if row and row[-1][1] == colour:
                row[-1] = (row[-1][0] + cell.data, colour)
            else:
                row.append((cell.data, colour))
        rows.append([(text, colour) for text, colour in row if text.strip()] and row)
    return rows


def record(sound: SoundServer, wav: Path) -> list[list[Row]]:
    """The screen every so often while a file is played to the microphone."""
    terminal = Terminal(COLUMNS, ROWS, FaintScreen)
    command = [sys.executable, "-m", "asr.cli", *COMMAND.split()[1:]]
    process = subprocess.Popen(command, env=sound.environment, stdout=terminal.end, stderr=subprocess.DEVNULL)
    terminal.wait(lambda lines: bool(lines) and "0:00:01" in lines[-1])
    player = subprocess.Popen(["paplay", "--device=speaker", str(wav)], env=sound.environment)
    frames, due_s = [], time.monotonic()
    settled = 0
    while settled < 2 / FRAME_S:
        frames.append(look(terminal.screen))
        settled = settled + 1 if player.poll() is not None else 0
        due_s += FRAME_S
        time.sleep(max(0.0, due_s - time.monotonic()))
    process.send_signal(signal.SIGINT)
    process.wait(30)
    terminal.close()
    return frames


def draw(frames: list[list[Row]]) -> str:
    """An SVG that shows one frame after another, and the last where nothing moves."""
    width, height = MARGIN_PX * 2 + CHAR_PX * COLUMNS, MARGIN_PX * 2 + LINE_PX * (ROWS + 1)
    period_s = FRAME_S * len(frames) + AFTERWARDS_S
    one, last = (100 * shown_s / period_s for shown_s in (FRAME_S, FRAME_S + AFTERWARDS_S))
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">',
        "<style>"
        f"@keyframes one {{ 0% {{ visibility: visible }} {one:.3f}%, 100% {{ visibility: hidden }} }}"
        f"@keyframes last {{ 0% {{ visibility: visible }} {last:.3f}%, 100% {{ visibility: hidden }} }}"
        "@media (prefers-reduced-motion: no-preference) {"
        f"g {{ animation: one {period_s:.2f}s step-end infinite }}"
        f"g.last {{ visibility: hidden; animation-name: last }} }}"
        "text { white-space: pre }</style>",
        '<rect width="100%" height="100%" rx="8" fill="#1e2127"/>',
        f'<text x="{MARGIN_PX}" y="{MARGIN_PX + 14}"><tspan fill="{COLOURS["green"]}">$ </tspan>'
        f'<tspan fill="{COLOURS["default"]}">{COMMAND}</tspan></text>',
    ]
    for number, rows in enumerate(frames):
        last = number == len(frames) - 1
        shown = 'class="last"' if last else 'visibility="hidden"'
        svg.append(f'<g {shown} style="animation-delay: {number * FRAME_S:.2f}s">')
        for y, row in enumerate(rows, 1):
            if row:
                spans = "".join(f'<tspan fill="{colour}">{escape(text)}</tspan>' for text, colour in trimmed(row))
                svg.append(
                    f'<text x="{MARGIN_PX}" y="{MARGIN_PX + LINE_PX * y + 14}" xml:space="preserve">{spans}</text>'
                )
        svg.append("</g>")
    return "\n".join([*svg, "</svg>\n"])


def trimmed(row: Row) -> Row:
    """Without the spaces at the end."""
    row = list(row)
    while row and not row[-1][0].strip():
        row.pop()
    return [*row[:-1], (row[-1][0].rstrip(), row[-1][1])] if row else row


def main() -> None:
    parts = []
    for path in map(Path, sys.argv[1:]):
        with AudioFile(path) as audio:
            down = StreamResampler(audio.sample_rate_hz, 16_000)
            parts += [*map(down.accept, audio), down.finish(), np.zeros(20_000, np.float32)]
    with tempfile.TemporaryDirectory() as folder, pulseaudio(Path(folder)) as sound:
        frames = record(sound, write_wav(Path(folder) / "said.wav", np.concatenate(parts), 48_000))
    (ROOT / "docs" / "terminal.svg").write_text(draw(frames), encoding="utf-8")


if __name__ == "__main__":
    main()
