"""What can be wrong with a microphone, and what to do about it on each platform."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Any


class FaultKind(Enum):
    """What is wrong."""

    NO_PORTAUDIO = "the microphone needs PortAudio"
    NO_DEVICE = "no microphone is there"
    NOT_ALLOWED = "this program may not use the microphone"
    BUSY = "cannot record: another program is using the microphone"
    SILENT = "the microphone gives nothing but silence"
    OTHER = "cannot record"


_WINDOWS_PRIVACY = "Settings > Privacy & security > Microphone, let desktop apps access it"
_MAC_PRIVACY = "System Settings > Privacy & Security > Microphone, allow the terminal and start it anew"
_REMEDIES = {
    FaultKind.NO_PORTAUDIO: {
        "linux": "apt install libportaudio2, dnf install portaudio, or pacman -S portaudio",
        "darwin": "pip install --force-reinstall sounddevice, which brings it, or brew install portaudio",
        "win32": "pip install --force-reinstall sounddevice, which brings it",
    },
    FaultKind.NO_DEVICE: {
        "linux": "connect one; `arecord -l` and `pactl list short sources` show what the system sees. A container must "
        "be given the sound card (--device /dev/snd) or PulseAudio's socket",
        "darwin": "connect one; System Settings > Sound > Input shows what the system sees",
        "win32": "connect one, or enable it in Settings > System > Sound > Input",
    },
    FaultKind.NOT_ALLOWED: {
        "linux": "sudo usermod -aG audio $USER, then log in again",
        "darwin": _MAC_PRIVACY,
        "win32": _WINDOWS_PRIVACY,
    },
    FaultKind.BUSY: {
        "linux": "`fuser -v /dev/snd/*` shows which; `--device pulse` or `--device default` may share it",
        "darwin": "close that program, or choose another device: `asr devices` shows them",
        "win32": "close that program, or untick exclusive control under the device's advanced properties in Settings > "
        "System > Sound",
    },
    FaultKind.SILENT: {
        "linux": "is it muted? `pactl list sources` and `alsamixer` say so; `asr devices` shows others",
        "darwin": f"is it muted, or forbidden? {_MAC_PRIVACY}",
        "win32": f"is it muted, or forbidden? {_WINDOWS_PRIVACY}",
    },
    FaultKind.OTHER: dict.fromkeys(("linux", "darwin", "win32"), "`asr devices` shows the others"),
}

_DEVICE_UNAVAILABLE, _INVALID_DEVICE = -9985, -9996  # PortAudio's own numbers
# Numbers of the systems below it: errno of Linux, HRESULT of Windows.
_DENIED = {-1, -13, 0x80070005 - (1 << 32)}
_IN_USE = {-16, 0x8889000A - (1 << 32)}


def fault_line(kind: FaultKind, name: str = "", reason: str = "", platform: str = sys.platform) -> str:
    """What is wrong and what to do, in a line.

    Args:
        kind: what is wrong.
        name: of the device, if one is meant.
        reason: the library's own words, if they say more.
        platform: as in `sys.platform`; one that is not known is taken for Linux.
    """
    told = kind.value
    if name:
        told = told.replace("the microphone", name) if "the microphone" in told else f"{told} from {name}"
    remedies = _REMEDIES[kind]
    remedy = remedies.get(platform, remedies["linux"])
    return f"{told}{f' ({reason})' if reason else ''}: {remedy}"


def fault_kind(error: Exception | None) -> FaultKind:
    """What an error of sounddevice means: its arguments are a text, PortAudio's number, and the system's own."""
    arguments: tuple[Any, ...] = error.args if error is not None else ()
    code = arguments[1] if len(arguments) > 1 else None
    host: tuple[Any, ...] = arguments[2] if len(arguments) > 2 else ()
    host_code = host[1] if len(host) > 1 else None
    text = " ".join(str(part) for part in arguments).lower()
    if host_code in _DENIED or "denied" in text or "not permitted" in text:
        return FaultKind.NOT_ALLOWED
    if code == _DEVICE_UNAVAILABLE or host_code in _IN_USE or "device unavailable" in text or "busy" in text:
        return FaultKind.BUSY
    if code == _INVALID_DEVICE:
        return FaultKind.NO_DEVICE
    return FaultKind.OTHER


def absence_line(platform: str = sys.platform, devices: Path = Path("/dev/snd")) -> str:
    """Why there is no microphone at all: on Linux, sound cards that may not be opened look like none."""
    if platform == "linux":
        for card in sorted(devices.glob("pcm*c")) if devices.is_dir() else []:
            if not os.access(card, os.R_OK | os.W_OK):
                return fault_line(FaultKind.NOT_ALLOWED, str(card), platform=platform)
    return fault_line(FaultKind.NO_DEVICE, platform=platform)


def reason_of(error: Exception | None) -> str:
    """PortAudio's own words, without its numbers and call names."""
    text = str(error.args[0]) if error is not None and error.args else str(error)
    return text.splitlines()[0].removeprefix("Error opening RawInputStream: ").removeprefix("Error starting stream: ")
