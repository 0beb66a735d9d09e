"""What a benchmark ran on."""

from __future__ import annotations

import platform
from pathlib import Path


def machine() -> str:
    """One line about where this runs."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {platform.system()}, Python {platform.python_version()}"
