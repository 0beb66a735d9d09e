"""Files by address: `asr transcribe` with stores in memory, web servers, and what goes wrong with them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import fsspec
import numpy as np
import pytest
from asr.cli.main import main
from audio_files import write_audio

MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    """A store that is this process's memory."""
    system = fsspec.filesystem("memory")
    system.rm("/", recursive=True)
    yield system
    system.rm("/", recursive=True)


def contents(store: fsspec.AbstractFileSystem, folder: str) -> dict[str, str]:
    return {name.removeprefix(folder): store.cat(name).decode() for name in store.find(folder)}


class Web:
    """Files in memory behind a web server, and the bytes that each request got."""

    def __init__(self, files: dict[str, bytes], ranges: bool, breaks_off: int | None) -> None:
        self.files, self.ranges, self.breaks_off, self.sent = files, ranges, breaks_off, list[int]()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(True)

            def do_HEAD(self) -> None:
                self.answer(False)

            def answer(self, body: bool) -> None:
                data = web.files.get(unquote(self.path.partition("?")[0]).lstrip("/"))
                if data is None:
                    self.send_error(404)
                    return
                begin, end, status = 0, len(data), 200
                if web.ranges and (asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))):
                    begin, end, status = int(asked[1]), min(len(data), int(asked[2]) + 1), 206
                self.send_response(status)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
                self.send_header("Content-Length", str(end - begin))
                self.end_headers()
                if body:
                    part = data[begin:end][: web.breaks_off]
                    web.sent.append(len(part))
                    self.wfile.write(part)
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def web(files: dict[str, bytes], ranges: bool = True, breaks_off: int | None = None) -> Iterator[tuple[str, Web]]:
    served = Web(files, ranges, breaks_off)
    with ThreadingHTTPServer(("127.0.0.1", 0), served.handler()) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", served
        server.shutdown()
        thread.join()


def test_from_a_store_to_a_store(store, recognizer, clips, capsys) -> None:
    """Results lie as the files do; what is done is skipped, and made anew when its file is."""
    for clip, name in zip(clips, ["a.opus", "may/b.opus", "may/c.opus"], strict=False):
        store.pipe(f"/talks/{name}", clip.path.read_bytes())
    store.pipe("/talks/notes.txt", b"no sound")
    store.pipe("/talks/.trash/d.opus", b"hidden")
    arguments = ["transcribe", "--recursive", "--jobs", "1", "--output", "memory://texts", "memory://talks"]
    assert main(arguments) == 0
    expected = [recognizer.transcribe(clip.path).text + "\n" for clip in clips[:3]]
    assert contents(store, "/texts") == dict(zip(["/a.txt", "/may/b.txt", "/may/c.txt"], expected, strict=True))
    assert "3 files written" in capsys.readouterr().err
    assert main(arguments) == 0
    assert "0 files written" in capsys.readouterr().err
    time.sleep(0.01)
    store.pipe("/talks/may/b.opus", clips[0].path.read_bytes())
    assert main(arguments) == 0
    assert "1 file written" in capsys.readouterr().err
    assert contents(store, "/texts")["/may/b.txt"] == expected[0]


def test_a_scheme_in_capitals(store, recognizer, clips, capsys) -> None:
    """MEMORY:// is the address that memory:// is."""
    store.pipe("/talks/a.opus", clips[0].path.read_bytes())
    assert main(["transcribe", "MEMORY://talks/a.opus"]) == 0
    assert capsys.readouterr().out == recognizer.transcribe(clips[0].path).text + "\n"


def test_the_beginning_of_a_damaged_file(store, speech, tmp_path, capsys) -> None:
    """In a store without dates it is kept under another name, so that the file counts as not done."""
    whole = write_audio(tmp_path / "cut.mp3", speech).read_bytes()
    store.pipe("/talks/cut.mp3", whole[: len(whole) // 2])
    arguments = ["transcribe", "--recursive", "--output", "memory://texts", "memory://talks"]
    assert main(arguments) == 1
    assert list(contents(store, "/texts")) == ["/cut.partial.txt"]
    store.pipe("/talks/cut.mp3", whole)
    assert main(arguments) == 0
    assert set(contents(store, "/texts")) == {"/cut.partial.txt", "/cut.txt"}


def test_a_text_that_a_store_does_not_take(store, clips, capsys, monkeypatch) -> None:
    """It goes to standard output, with the reason."""
    store.pipe("/talks/a.opus", clips[0].path.read_bytes())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("the bucket is read-only")

    monkeypatch.setattr(type(store), "pipe_file", refuse)
    assert main(["transcribe", "--output", "memory://texts", "memory://talks/a.opus"]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.split()) > 5
    assert "cannot write memory://texts/a.txt (the bucket is read-only)" in shown.err


def test_stores_with_names_that_can_be_moved(clips, tmp_path, capsys, monkeypatch) -> None:
    """Where an object is not whole by itself, a result is written beside its place and moved there, or not there."""
    source, system = clips[0].path, fsspec.filesystem("file")
    moved = []
    move = type(system).mv
    monkeypatch.setattr(type(system), "mv", lambda *where: moved.append(where[1:]) or move(*where))
    assert main(["transcribe", "--output", f"local://{tmp_path}/texts", str(source)]) == 0
    ((part, target),) = moved
    assert Path(target) == tmp_path / "texts" / f"{source.stem}.txt"
    assert Path(part).parent == tmp_path / "texts"
    assert [path.name for path in (tmp_path / "texts").iterdir()] == [f"{source.stem}.txt"]

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(system), "mv", fail)
    assert main(["transcribe", "--output", f"local://{tmp_path}/others", str(source)]) == 1
    assert list((tmp_path / "others").iterdir()) == []
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False], ids=["in parts", "as a whole"])
def test_from_the_web(ranges, recognizer, clips, speech, tmp_path) -> None:
    """Whether a server gives parts of files or not, and wherever a file has its table of contents, the text is that of
    the file; in more processes, too."""
    m4a = write_audio(tmp_path / "talk.m4a", speech)
    files = {"a talk.opus": clips[0].path.read_bytes(), "talk.m4a": m4a.read_bytes()}
    with web(files, ranges) as (address, _):
        command = [sys.executable, "-m", "asr.cli", "transcribe", "--jobs", "2", "--output", str(tmp_path / "out")]
        command += [f"{address}/a%20talk.opus?key=secret", f"{address}/talk.m4a"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    for name, path in (("a talk", clips[0].path), ("talk", m4a)):
        assert (tmp_path / "out" / f"{name}.txt").read_text().split() == recognizer.transcribe(path).text.split()


def test_a_long_file_is_read_in_parts(speech, tmp_path) -> None:
    """No request asks for more than some megabytes, and hardly anything is asked for twice."""
    long = write_audio(tmp_path / "long.wav", np.tile(speech, 16)).read_bytes()
    assert len(long) > 11 * MIB
    with web({"long.wav": long}) as (address, served):
        assert main(["transcribe", "--beam", "0", "--output", str(tmp_path), f"{address}/long.wav"]) == 0
    assert max(served.sent) < 6 * MIB
    assert sum(served.sent) < 1.5 * len(long)


def test_what_goes_wrong_on_the_web(clips, speech, tmp_path, capsys) -> None:
    """What is not there, and what breaks off, is a line each with the address; the rest is done."""
    whole = write_audio(tmp_path / "whole.mp3", speech).read_bytes()
    good = {"a.opus": clips[0].path.read_bytes()}
    with web(good) as (address, _), web({"b.mp3": whole}, False, breaks_off=60_000) as (other, _):
        sources = [f"{address}/none.opus", f"{other}/b.mp3", f"{address}/a.opus"]
        assert main(["transcribe", "--jobs", "1", "--output", str(tmp_path / "out"), *sources]) == 1
    missing, broken = sorted(capsys.readouterr().err.splitlines(), key=lambda line: "b.mp3" in line)
    assert re.search(r"/none\.opus: cannot be opened \(nothing is there.*Check the address", missing)
    assert "/b.mp3" in broken
    assert len((tmp_path / "out" / "a.txt").read_text().split()) > 5
    assert not (tmp_path / "out" / "none.txt").exists()


def test_addresses_of_this_machine_s_files(recognizer, clips, tmp_path, capsys) -> None:
    """file:// is a path, as a source and as a folder for results."""
    assert main(["transcribe", clips[0].path.resolve().as_uri()]) == 0
    said = capsys.readouterr().out
    assert said.split() == recognizer.transcribe(clips[0].path).text.split()
    assert main(["transcribe", "--output", tmp_path.as_uri(), str(clips[0].path)]) == 0
    assert (tmp_path / f"{clips[0].path.stem}.txt").read_text() == said


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["https://127.0.0.1:9/a.wav"], "asr-stream[urls]"),
        (["--output", "s3://bucket/out", "a.wav"], "asr-stream[urls]"),
    ],
)
def test_what_to_install(arguments, hint, capsys, monkeypatch) -> None:
    """Without the extra an address is one line that names it."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert main(["transcribe", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert hint in error


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("https://example.org/out", "cannot be written to the web"),
        ("what://out", "what"),
        ("file://else/x", "file:///"),
    ],
)
def test_places_that_take_no_results(output, hint, capsys) -> None:
    """They are refused before any work."""
    assert main(["transcribe", "--output", output, "a.wav"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert hint in error


def test_a_store_whose_package_is_missing(capsys, monkeypatch) -> None:
    """The line names the package."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert main(["transcribe", "--output", "out", "s3://bucket/a.wav"]) == 1
    assert "s3fs" in capsys.readouterr().err
