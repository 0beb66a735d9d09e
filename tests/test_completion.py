"""Completions, in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from mic_process import Terminal

COMMANDS = {
    "transcribe",
    "mic",
    "devices",
    "serve",
    "evaluate",
    "train",
    "lm",
    "punctuation",
    "lexicon",
    "tune",
    "doctor",
    "completion",
}


def script_for(shell: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    done = subprocess.run([sys.executable, "-m", "asr.cli", "completion", shell], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# What is typed, and what it may become.
CASES = [
    (["asr", ""], COMMANDS),
    (["asr", "de"], {"devices"}),
    (["asr", "mic", "--re"], {"--reconnect", "--replace"}),
    (["asr", "lm", "b"], {"build"}),
    (["asr", "transcribe", "--format", "s"], {"srt"}),
    (["asr", "transcribe", "no"], {"notes.wav"}),
    (["asr", "mic", "--save", "no"], {"notes.wav"}),
]


def test_bash(tmp_path) -> None:
    """Bash completes commands, options, choices and files."""
    (tmp_path / "asr.bash").write_text(script_for("bash"))
    (tmp_path / "notes.wav").touch()
    for words, expected in CASES:
        typed = " ".join(f"'{word}'" for word in words)
        program = f"""source asr.bash
COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}
$(complete -p asr | sed 's/.*-F \\([^ ]*\\).*/\\1/') asr "${{COMP_WORDS[COMP_CWORD]}}" ""
printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True)
        found = {name.strip() for name in done.stdout.splitlines()}
        assert expected <= found, done.stderr
        assert all(name.startswith(words[-1]) for name in found - {""})


def test_fish(tmp_path) -> None:
    """Fish completes commands, options, choices and files."""
    (tmp_path / "asr.fish").write_text(script_for("fish"))
    (tmp_path / "notes.wav").touch()
    environment = {**os.environ, "HOME": str(tmp_path)}
    for words, expected in CASES:
        program = f"source asr.fish; complete -C '{' '.join(words)}'"
        done = subprocess.run(["fish", "-c", program], cwd=tmp_path, capture_output=True, text=True, env=environment)
        found = {line.split("\t")[0] for line in done.stdout.splitlines()}
        assert expected <= found, (words, done.stderr)


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("asr dev", "asr devices"),
        ("asr mic --reco", "asr mic --reconnect"),
        ("asr transcribe --format sr", "asr transcribe --format srt"),
        ("asr mic --save not", "asr mic --save notes.wav"),
    ],
)
def test_zsh(tmp_path, typed, becomes) -> None:
    """In an interactive zsh the tabulator key completes commands, options, choices and files."""
    (tmp_path / "_asr").write_text(script_for("zsh"))
    (tmp_path / "notes.wav").touch()
    (tmp_path / ".zshrc").write_text(
        "PS1='ready> '; fpath=($ZDOTDIR $fpath); autoload -Uz compinit; compinit -u; compdef _asr asr\n"
    )
    terminal = Terminal()
    environment = {"PATH": os.environ["PATH"], "ZDOTDIR": str(tmp_path), "TERM": "vt100", "HOME": str(tmp_path)}
    shell = subprocess.Popen(
        ["zsh", "-i"],
        cwd=tmp_path,
        env=environment,
        stdin=terminal.end,
        stdout=terminal.end,
        stderr=terminal.end,
        start_new_session=True,
    )
    try:
        terminal.wait(lambda lines: bool(lines) and lines[-1].startswith("ready>"))
        os.write(terminal.main, f"{typed}\t".encode())
        terminal.wait(lambda lines: lines[-1].rstrip() == f"ready> {becomes}")
    finally:
        shell.kill()
        shell.wait()
        terminal.close()


def test_a_shell_that_is_not_known() -> None:
    """Any other shell is wrong usage, with the ones that are known."""
    done = subprocess.run([sys.executable, "-m", "asr.cli", "completion", "tcsh"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "bash" in done.stderr


def test_every_command_is_listed() -> None:
    """The commands above are all there are."""
    from asr.cli.main import parser

    assert set(parser()._subparsers._group_actions[0].choices) == COMMANDS
