"""Clients in other languages, with those languages' own libraries, against a running server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import pcm_of, serving, texts_of

import asr
from asr.search.endpoint import DEFAULT_RULES

CLIENTS = Path(__file__).parent / "clients"
GORILLA = Path("/usr/share/gocode/src/github.com/gorilla/websocket")  # where Debian's package puts it

needs_node = pytest.mark.skipif(
    not shutil.which("node") or not (CLIENTS / "node/node_modules").exists(),
    reason="needs Node, and once: npm ci --prefix tests/clients/node",
)
needs_go = pytest.mark.skipif(
    not shutil.which("go") or not GORILLA.exists(),
    reason="needs Debian's golang-go and golang-github-gorilla-websocket-dev",
)


@pytest.fixture(scope="module")
def address(recognizer) -> Iterator[str]:
    with serving(recognizer) as (address, _):
        yield address


@pytest.fixture(scope="module")
def pcm_file(speech, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.pcm"
    path.write_bytes(pcm_of(speech))
    return path


def messages_of(*command: str | Path, **environment: str) -> list[dict]:
    """What a client prints."""
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@needs_node
def test_a_vosk_client_in_node(address, pcm_file, recognizer) -> None:
    """One that sends everything at once gets an answer to every message, and the engine's text."""
    messages = messages_of("node", CLIENTS / "node/vosk.mjs", address, pcm_file)
    assert len(messages) == -(-pcm_file.stat().st_size // 8_000) + 1
    said = " ".join(message["text"] for message in messages if message.get("text"))
    assert said == " ".join(texts_of(recognizer, pcm_file.read_bytes(), written=False))


@needs_go
def test_a_vosk_client_in_go(address, pcm_file, recognizer) -> None:
    """One that waits for every answer, with the library that Go programs use."""
    client = CLIENTS / "go/vosk.go"
    messages = messages_of("go", "run", client, address, pcm_file, GO111MODULE="off", GOPATH="/usr/share/gocode")
    said = " ".join(message["text"] for message in messages if message.get("text"))
    assert said == " ".join(texts_of(recognizer, pcm_file.read_bytes(), written=False))


@needs_node
def test_deepgram_s_javascript_sdk(address, pcm_file, recognizer) -> None:
    """The official SDK: interim and final results, Finalize, and the metadata at the end."""
    messages = messages_of("node", CLIENTS / "node/deepgram.mjs", address, pcm_file)
    results = [message for message in messages if message["type"] == "Results"]
    finals = [result for result in results if result["is_final"]]
    texts = [final["channel"]["alternatives"][0]["transcript"] for final in finals]
    assert " ".join(filter(None, texts)) == " ".join(texts_of(recognizer, pcm_file.read_bytes(), written=False))
    assert len(results) > len(finals)
    assert any(final["from_finalize"] for final in finals)
    assert messages[-1]["type"] == "Metadata"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@needs_node
@pytest.mark.parametrize("kind", ["node", "browser"])
def test_openai_s_javascript_package(certificate, pcm_file, recognizer, kind) -> None:
    """Its Realtime clients, the one for Node and the one for browsers, which want TLS and a subprotocol."""
    cert, key = certificate
    with serving(recognizer, cert=cert, key=key, token="correct-horse") as (address, _):
        script = CLIENTS / "node/realtime.mjs"
        messages = messages_of("node", script, address, pcm_file, kind, NODE_EXTRA_CA_CERTS=str(cert))
    deltas = [message["delta"] for message in messages if message["type"].endswith(".delta")]
    stream = recognizer.stream(16_000, rules=DEFAULT_RULES[1:])
    events = [*stream.accept(pcm_file.read_bytes()), *stream.flush()]
    said = " ".join(event.text for event in events if isinstance(event, asr.Final))
    assert "".join(deltas) == messages[-1]["transcript"] == said
