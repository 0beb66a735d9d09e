"""The browser page in a real Chromium, whose microphone plays a speech file."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import urllib.request
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving import pcm_of, serving, texts_of

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with pip install playwright")
expect = playwright.expect
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested with Chromium: install it")
SCREENSHOT = os.environ.get("SCREENSHOT")  # where to leave a picture of the page, for the README


@pytest.fixture(scope="module")
def address(recognizer) -> Iterator[str]:
    with serving(recognizer) as (address, _):
        yield address.replace("ws:", "http:") + "/"


@pytest.fixture(scope="module")
def speech_file(clips, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    pause = np.zeros(24_000, dtype=np.float32)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(pcm_of(np.concatenate([pause, clips[1].samples, pause, clips[3].samples, pause, pause])))
    return path


@pytest.fixture
def page(address, speech_file) -> Iterator[object]:
    arguments = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={speech_file}%noloop",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments, chromium_sandbox=False)
        context = browser.new_context(permissions=["microphone", "clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_viewport_size({"width": 900, "height": 640})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.goto(address)
        yield page
        browser.close()
        assert problems == []


def finals_of(page) -> list[str]:
    return page.locator("#finals p").all_text_contents()


def test_speaking_into_the_page(page, recognizer, speech_file) -> None:
    """Press the button with the keyboard and speak: text comes while speaking, settles, and is there after stopping."""
    expected = " ".join(texts_of(recognizer, wave_bytes(speech_file)))
    page.get_by_role("button", name="Start speaking").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#stable")).to_have_text(re.compile(".{12}"), timeout=30_000)
    assert page.locator("#level").evaluate("meter => meter.value") > 0
    if SCREENSHOT:
        expect(page.locator("#finals p")).not_to_have_count(0, timeout=30_000)
        expect(page.locator("#stable")).to_have_text(re.compile(".{12}"), timeout=30_000)
        page.screenshot(path=SCREENSHOT)
    expect(page.locator("#finals p").nth(1)).to_be_attached(timeout=30_000)
    assert re.fullmatch(r"shown \d+\.\d\d s after it was said", page.locator("#latency").text_content())
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.", timeout=10_000)
    # The browser resamples and levels the microphone: nearly the engine's text, not exactly.
    assert difflib.SequenceMatcher(None, " ".join(finals_of(page)), expected).ratio() > 0.7
    assert page.locator("#partial").text_content() == ""


def wave_bytes(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes())


def test_a_file_copying_and_subtitles(page, recognizer, speech_file) -> None:
    """A chosen file gives exactly the engine's text; it can be copied, and saved as subtitles with the right times."""
    page.set_input_files("#file", speech_file)
    expect(page.locator("#status")).to_contain_text("is done", timeout=30_000)
    texts = texts_of(recognizer, wave_bytes(speech_file))
    assert finals_of(page) == texts
    page.get_by_role("button", name="Copy text").click()
    expect(page.locator("#status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(texts)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download SRT").click()
    subtitles = Path(download.value.path()).read_text()
    times = re.findall(r"(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})", subtitles)
    assert subtitles.startswith(("1\n00:00:01,", "1\n00:00:02,"))
    assert times == sorted(times)
    assert " ".join(re.findall(r"^[A-Za-z].*$", subtitles, re.MULTILINE)) == " ".join(texts)
    page.get_by_role("button", name="Clear").click()
    assert finals_of(page) == []


def test_a_dropped_file_that_is_no_audio(page) -> None:
    """It is named, with what to try instead, and the page goes on working."""
    drop = """() => {
        const data = new DataTransfer();
        data.items.add(new File(["not audio"], "notes.mp3"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop)
    expect(page.locator("#status")).to_contain_text("notes.mp3 is no audio")
    assert page.get_by_role("button", name="Start speaking").is_enabled()


def test_what_the_page_is_made_of(address) -> None:
    """It loads nothing from elsewhere, is told to, and is small."""
    total = 0
    for path in ("", "page/main.js", "page/live.js", "page/microphone.js", "page/capture.js", "page/style.css"):
        with urllib.request.urlopen(address + path) as response:
            body = response.read().decode()
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert not re.search(r"https?://", body)
            total += len(body)
    assert total < 30_000
