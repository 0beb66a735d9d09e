"""Recognition needs no torch, and what does says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

_WITHOUT = "import sys; sys.modules['torch'] = None\n"  # as if it were not installed


def run_without_torch(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT + program, *arguments], capture_output=True, text=True, check=False
    )


def test_a_file_is_transcribed(recognizer, clips) -> None:
    """Without torch a file's text is what it is with it."""
    program = "from asr.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = run_without_torch(program, "transcribe", str(clips[0].path))
    assert done.stdout.strip() == recognizer.transcribe(clips[0].path).text, done.stderr
    assert done.returncode == 0


def test_several_streams_advance_together(recognizer, clips) -> None:
    """Without torch two streams in one batched step have the texts that each has alone."""
    program = """
import asr
from asr.audio.audio_file import AudioFile
recognizer = asr.load()
files = [AudioFile(path) for path in sys.argv[1:]]
streams = [recognizer.stream(file.sample_rate_hz) for file in files]
texts = [[], []]
for file, stream in zip(files, streams):
    for block in file:
        stream.push(block)
    stream.end()
while any(stream.ready for stream in streams):
    for text, events in zip(texts, recognizer.advance(streams)):
        text += [event.text for event in events if isinstance(event, asr.Final)]
print(texts)
"""
    paths = [clip.path for clip in clips[:2]]
    alone = [[final.text for final in recognizer.transcribe(path).finals] for path in paths]
    done = run_without_torch(program, *map(str, paths))
    assert done.stdout.strip() == str(alone), done.stderr


@pytest.mark.parametrize(
    ("program", "remedy"),
    [
        ("from asr.cli.main import main; sys.exit(main(['train', 'none.toml']))", "asr-stream[train]"),
        ("from asr.cli.main import main; sys.exit(main(['lm', 'train', 'o', 'text.txt']))", "asr-stream[train]"),
        ("from asr.cli.main import main; sys.exit(main(['punctuation', 'train', 'o', 'text']))", "asr-stream[train]"),
        ("from asr.cli.main import main; sys.exit(main(['lexicon', 'train-g2p', 'o']))", "asr-stream[train]"),
        ("import asr; asr.load(precision='float32')", "asr-stream[torch]"),
        ("import asr.ctcdecode", "asr-stream[torch]"),
    ],
)
def test_what_needs_torch_says_so(program, remedy) -> None:
    """Training of every kind, the network in float32 and ctcdecode's interface name what to install."""
    done = run_without_torch(program)
    assert done.returncode == 1
    assert remedy in done.stderr


def test_the_command_line_loads_no_engine() -> None:
    """`asr --version` and `--help` import neither NumPy nor Numba, which take most of a second, nor what draws."""
    program = """
from asr.cli.main import main
for argument in ("--version", "--help"):
    try:
        main([argument])
    except SystemExit:
        pass
print(sorted({"numpy", "numba", "rich", "shtab", "sounddevice"} & set(sys.modules)))
"""
    done = run_without_torch(program)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_names_are_fetched_when_used() -> None:
    """Every public name of the package is there, and one that is not is an error that names it."""
    import asr

    assert all(getattr(asr, name) is not None for name in asr.__all__)
    assert set(asr.__all__) <= set(dir(asr))
    with pytest.raises(AttributeError, match="no_such_name"):
        asr.no_such_name  # noqa: B018
