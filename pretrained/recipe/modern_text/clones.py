"""Files of a stated commit, read from a git clone without a work tree."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.errors import DataError

# The texts were first made of clones without larger files; so whoever makes them again gets the same lines.
LARGEST_BYTES = (4 << 20) - 1


@dataclass(frozen=True)
class Repository:
    """Which files of which commit to take."""

    name: str  # OWNER/NAME on GitHub
    commit: str  # all 40 digits
    files: str  # pattern that is searched for in the paths


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    path: str  # within the repository
    text: str  # lines end with \n


class Clone:
    """A repository on this disk.

    Looks for FOLDER/OWNER+NAME, bare or not, and for a clone named ``repo`` in it.

    Raises:
        DataError: no clone is there, or it lacks the commit; the message has the git command to run.
    """

    def __init__(self, folder: Path, repository: Repository) -> None:
        self.repository = repository
        path = folder / repository.name.replace("/", "+")
        found = [place for place in (path / ".git", path / "repo" / ".git", path / "repo", path) if _is_git(place)]
        if not found:
            raise DataError(f"no clone: git clone --bare https://github.com/{repository.name} {path}")
        self.git = "git", f"--git-dir={found[0]}"
        commit = f"{repository.commit}^{{commit}}"
        if subprocess.run([*self.git, "cat-file", "-e", commit], capture_output=True).returncode:
            raise DataError(
                f"{found[0]} lacks the commit: git -C {found[0]} fetch "
                f"https://github.com/{repository.name} {repository.commit}"
            )

    def files(self) -> Iterator[File]:
        """The repository's files, in the order of their paths; bytes that are not UTF-8 become U+FFFD."""
        command = [*self.git, "ls-tree", "-r", "-l", "-z", self.repository.commit]
        tree = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode("utf-8", "replace")
        with subprocess.Popen(
            [*self.git, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for row in tree.split("\0")[:-1]:
                description, path = row.split("\t", 1)
                _, _, name, size = description.split()  # a submodule's size is "-"
                if not size.isdigit() or int(size) > LARGEST_BYTES or not re.search(self.repository.files, path):
                    continue
                process.stdin.write(name.encode() + b"\n")
                process.stdin.flush()
                process.stdout.readline()
                content = process.stdout.read(int(size) + 1)[:-1]
                yield File(path, content.decode("utf-8", "replace").replace("\r\n", "\n"))


def _is_git(path: Path) -> bool:
    return (path / "objects").is_dir() and (path / "HEAD").exists()
