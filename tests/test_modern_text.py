"""Modern texts, of small git repositories that are made here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError

sys.path.insert(0, str(Path(__file__).parent.parent / "pretrained" / "recipe"))
import make_modern_text
from modern_text import prose, talk
from modern_text.cleaning import Measured, tidy
from modern_text.clones import Clone, Repository
from modern_text.sources import SOURCES, Source

POST = """---
title: A front matter of words that are not the text.
---

# A heading of the page that is long enough to be text.

The first paragraph has a [link](https://example.com/a_(b)) and *words*
on two lines. He had never been there. It ends here.

```python
print("This is code, and there is enough of it for a line.")
```

| a table | has cells, and they are not what anyone has said. |

- This is an item of a list &amp; it is kept as a line.
- This is an item of a list &amp; it is kept as a line.

The first paragraph has no end like that of a sentence
"""
DIALOGUES = [
    {"turns": [{"utterance": "I want a table for two at 7:30 in the evening"}, {"utterance": "i am careless"}]}
]


def commit(folder: Path, files: dict[str, str], *options: str) -> str:
    """Make a repository of these files in a folder; the commit's name."""
    git = "git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.com"
    folder.mkdir(parents=True)
    subprocess.run([*git, "init", "--quiet", *options], check=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "text"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clones of two of three repositories, and a table of sources that names them."""
    folder = tmp_path / "clones"
    blog = commit(tmp_path / "blog", {"posts/one.md": POST, "about.txt": "This is not one of the posts, so it is out."})
    bare = "git", "clone", "--quiet", "--bare", str(tmp_path / "blog"), str(folder / "someone+blog")
    subprocess.run(bare, check=True)
    (tmp_path / "blog" / "posts" / "one.md").unlink()  # no clone's work tree is read
    chat = commit(folder / "someone+chat" / "repo", {"chat.json": json.dumps(DIALOGUES)})
    table = (
        Source("gone", (Repository("someone/gone", "0" * 40, "."),), "CC0", "nothing", prose.pages, 2),
        Source("blog", (Repository("someone/blog", blog, r"^posts/"),), "CC0", "a blog", prose.pages, 6),
        Source("chat", (Repository("someone/chat", chat, r"\.json$"),), "CC0", "a chat", talk.sgd, 2, whole=False),
    )
    monkeypatch.setattr(make_modern_text, "SOURCES", table)
    return folder


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "speech.dev.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "he had never been there"}) + "\n")
    return path


def test_text_of_clones(clones: Path, manifest: Path, tmp_path: Path) -> None:
    """Paragraphs and turns are left: no markup, code, heading, second copy or measured sentence."""
    output = tmp_path / "text"
    make_modern_text.main([str(clones), str(output), "--measured", str(manifest), "--only", "blog", "chat"])
    assert (output / "blog.txt").read_text().splitlines() == [
        "The first paragraph has a link and words on two lines. It ends here.",
        "This is an item of a list & it is kept as a line.",
    ]
    assert (output / "chat.txt").read_text() == "I want a table for two at 7:30 in the evening\n"
    assert sorted(path.name for path in output.iterdir()) == ["blog.txt", "chat.txt"]


def test_a_missing_clone_is_named_and_the_others_go_on(clones: Path, tmp_path: Path, capsys) -> None:
    """The message is the command that makes the clone, and the exit status is 1."""
    with pytest.raises(SystemExit) as exit_:
        make_modern_text.main([str(clones), str(tmp_path / "text")])
    assert exit_.value.code == 1
    assert f"git clone --bare https://github.com/someone/gone {clones / 'someone+gone'}\n" in capsys.readouterr().err
    assert "He had never been there." in (tmp_path / "text" / "blog.txt").read_text()
    assert (tmp_path / "text" / "chat.txt").exists()


def test_a_clone_without_the_commit(clones: Path) -> None:
    """An old clone's message says how to fetch the commit."""
    with pytest.raises(DataError, match=f"fetch https://github.com/someone/blog {'1' * 40}$"):
        Clone(clones, Repository("someone/blog", "1" * 40, "."))


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    """A slip in a manifest must not let its transcripts through."""
    path = tmp_path / "speech.dev.jsonl"
    path.write_text('{"id": "a"}\n')
    with pytest.raises(DataError, match="needs a JSON object with a text"):
        Measured([path])


def test_measured_sentences_are_dropped_in_runs(manifest: Path, tmp_path: Path) -> None:
    """A transcript of two sentences goes, however it is written; a part of a longer sentence stays."""
    path = tmp_path / "two.dev.jsonl"
    path.write_text('{"id": "b", "text": "it\'s late. we must go home"}\n')
    measured = Measured([manifest, path])
    assert measured.drop("Well. It\u2019s late! \u201cWe must go home.\u201d Good.") == "Well. Good."
    assert measured.drop("He had never been there, it's late.") == "He had never been there, it's late."
    assert measured.drop("He had never been there.") == ""


@given(st.text(st.sampled_from('aI &#;amp()[],."\n\t\u00a0\u200b\u2192\U0001f600') | st.characters()))
def test_tidy_lines_are_words_apart_by_one_space(text: str) -> None:
    """Whatever a source gives, a tidy line is one line and has no space too many."""
    line = tidy(text)
    assert line == " ".join(line.split())


def test_every_source_says_where_it_comes_from() -> None:
    """Names are different, commits have all digits, and each source has a licence."""
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    for source in SOURCES:
        assert source.licence
        for repository in source.repositories:
            assert len(bytes.fromhex(repository.commit)) == 20
