"""What setup.cfg cannot say: the package brings compiled functions for recognition (see asr/library.py).

They are made when a wheel is, for the best kind of processor that this one is of. That needs a C compiler, to link, and
takes about 25 seconds. Where it cannot be done the package works all the same: what it needs is then compiled at its
first use. With ASR_MACHINE, which names a kind of machine, the wheel is one to give away: it is for all processors of
that kind, and for every Linux that its platform tag names, or it is not made.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FOLDER = Path("asr") / "compiled"
MACHINE = os.environ.get("ASR_MACHINE")


class BuildWithLibrary(build_py):
    """Python files, and the library beside them: an editable install has it among the sources."""

    def run(self) -> None:
        super().run()
        target = (ROOT if self.editable_mode else Path(self.build_lib)) / FOLDER
        if not self.editable_mode:
            shutil.rmtree(target, ignore_errors=True)  # of the wheel before this one, perhaps for another machine
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        command = [sys.executable, "-m", "asr.build_library", str(target.resolve())]
        if MACHINE:
            command.append("--all")
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            if MACHINE:
                sys.exit(f"asr: no library for {MACHINE} ({reason})")
            print(f"asr: nothing is compiled beforehand ({reason}); it will be at its first use", file=sys.stderr)


class PlatformWheel(bdist_wheel):
    """For any Python, but for one kind of machine."""

    def get_tag(self) -> tuple[str, str, str]:
        # What glibc of 2012 has is all that the library needs; the second name is the one that older pips know.
        given = f"manylinux_2_17_{MACHINE}.manylinux2014_{MACHINE}"
        return "py3", "none", given if MACHINE else super().get_tag()[2]


class PlatformDistribution(Distribution):
    """One with machine code in it."""

    def has_ext_modules(self) -> bool:
        return True


setup(distclass=PlatformDistribution, cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel})
