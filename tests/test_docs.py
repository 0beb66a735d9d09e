"""What the documents say is so."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np

from asr.train.config import Config, load_config

ROOT = Path(__file__).parent.parent


def test_ci_runs_the_second_command_as_written() -> None:
    """The README's command for the tests stands in .ci/run to the letter."""
    commands = re.findall(r"^    (python3 -m venv .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readme_examples_run(clips, capsys) -> None:
    """The README's Python examples run on real speech and print words."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    pcm = np.clip(np.repeat(clips[0].samples, 3) * 32768, -32768, 32767).astype("<i2").tobytes()
    names = {"microphone": [pcm[i : i + 9_600] for i in range(0, len(pcm), 9_600)]}
    for example in examples:
        exec(example, names)
    assert len(capsys.readouterr().out.split()) > 5


def test_the_example_configuration_has_every_key_at_its_default() -> None:
    """docs/train.toml lists all options, and all but [data] as the code has them."""
    path = ROOT / "docs" / "train.toml"
    config, tables = load_config(path), tomllib.loads(path.read_text())
    for table in fields(Config):
        options = getattr(config, table.name)
        assert set(tables[table.name]) == {field.name for field in fields(options)}
        if table.name != "data":
            assert options == type(options)()


def test_links_lead_somewhere() -> None:
    """Every relative link in the documents names a file that is there."""
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("pretrained/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
