"""``asr doctor``: what a report of a fault needs to say."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

_STYLES = {"ok": "green", "warning": "yellow", "broken": "red"}


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "doctor",
        help="check this installation, for a look or for a report of a fault",
        description="Check versions, processor, the place for compiled code, the sound system, the model's files, and "
        "recognise two seconds of speech. The exit status is 1 if recognition cannot work.",
    )
    command.add_argument("--model", metavar="DIR", help="model folder (default: english, the one that comes with asr)")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print each finding as it comes; return 1 if something that recognition needs is broken."""
    from asr.cli.checkup import Finding, check_all
    from rich.console import Console
    from rich.text import Text

    found: list[Finding] = []
    console = Console(highlight=False, markup=False, emoji=False)
    for finding in check_all(options.model):
        found.append(finding)
        if options.json:
            continue
        line = Text.assemble((f"{finding.state:<8}", _STYLES[finding.state]), f"{finding.name:<12} {finding.text}")
        console.print(line, soft_wrap=True)
        for detail in (*finding.lines, *([finding.remedy] if finding.remedy else [])):
            console.print(" " * 21 + detail, soft_wrap=True)
    broken = [finding.name for finding in found if finding.state == "broken"]
    if options.json:
        print(json.dumps({"ok": not broken, "findings": [asdict(finding) for finding in found]}, indent=2))
    return 1 if broken else 0
