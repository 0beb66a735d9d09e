"""``asr devices``: what can record."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from asr.cli.sound_faults import absence_line
from asr.cli.sound_library import quiet_libraries, sound_library

from asr.errors import AudioError

_RATES_HZ = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)  # those that devices have


@dataclass(frozen=True)
class InputDevice:
    """A device that can record."""

    number: int  # what --device takes, until something is plugged in or out
    name: str  # what --device takes, too, or a part of it
    host: str  # the sound system by which it is reached
    channels: int  # at most
    default_rate_hz: int  # its own, which `asr mic` asks for
    rates_hz: tuple[int, ...]  # of the usual ones, those it opens with now; none if it is in use
    default: bool  # whether it is taken where none is named


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "devices",
        help="list the microphones there are",
        description="List the devices that can record, with their channels and the sample rates they open with. "
        "* marks the default.",
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the list; with --json an empty one is a list, too."""
    devices = find_devices()
    if options.json:
        print(json.dumps([asdict(device) for device in devices], indent=2))
        return 0
    sys.stdout.write(device_table(devices))
    return 0


def find_devices() -> list[InputDevice]:
    """All devices that can record. Raises ConfigError where there is no PortAudio."""
    with quiet_libraries():
        library = sound_library()
        default = library.default.device[0]
        return [
            InputDevice(
                number,
                str(device["name"]),
                str(library.query_hostapis(device["hostapi"])["name"]),
                int(device["max_input_channels"]),
                round(device["default_samplerate"]),
                tuple(rate_hz for rate_hz in _RATES_HZ if _opens(library, number, rate_hz)),
                number == default,
            )
            for number, device in enumerate(library.query_devices())
            if device["max_input_channels"] > 0
        ]


def device_table(devices: list[InputDevice]) -> str:
    """A line for each device. Raises AudioError if there is none."""
    if not devices:
        raise AudioError(absence_line())
    return "".join(
        f"{'*' if device.default else ' '} {device.number:3}  {device.name}"
        f" ({device.host}, {device.channels} {'channel' if device.channels == 1 else 'channels'},"
        f" {device.default_rate_hz} Hz{_others(device)})\n"
        for device in devices
    )


def _others(device: InputDevice) -> str:
    others = [str(rate_hz) for rate_hz in device.rates_hz if rate_hz != device.default_rate_hz]
    return f"; also {', '.join(others)}" if others else ""


def _opens(library: Any, number: int, rate_hz: int) -> bool:
    try:
        library.check_input_settings(device=number, channels=1, dtype="int16", samplerate=rate_hz)
    except (ValueError, library.PortAudioError):
        return False
    return True
