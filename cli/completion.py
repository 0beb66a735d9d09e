"""``asr completion SHELL``: what a shell needs to know to complete our commands and their options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_SHELLS = ("bash", "zsh", "fish")
_FOLDERS = {"DIR"}  # metavars of arguments that are paths, though not made into one
_FILES = {"FILE", "MODEL"}


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "completion",
        help="print what lets a shell complete asr's commands and options",
        description="Print the completions for a shell.",
        epilog="bash: asr completion bash > ~/.local/share/bash-completion/completions/asr\n"
        "zsh:  asr completion zsh > DIR/_asr, with DIR in $fpath\n"
        "fish: asr completion fish > ~/.config/fish/completions/asr.fish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("shell", choices=_SHELLS)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print them."""
    import shtab
    from asr.cli.main import parser

    root = parser()
    _mark_paths(root, shtab.FILE, shtab.DIRECTORY)
    print(shtab.complete(root, options.shell))
    return 0


def _mark_paths(parser: argparse.ArgumentParser, files: dict[str, Any], folders: dict[str, Any]) -> None:
    """Have arguments that are paths completed with those there are."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_paths(command, files, folders)
        elif action.metavar in _FOLDERS:
            action.complete = folders  # type: ignore[attr-defined]
        elif action.type is Path or action.metavar in _FILES:
            action.complete = files  # type: ignore[attr-defined]
