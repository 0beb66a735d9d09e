"""Object files to a library that any Linux of a kind of machine can load, whichever machine it is linked on.

A linker asks for the newest version of each function that the C library at hand has, and an older system then refuses
the library: for `exp` and `log` that is one of 2019, which differs from the first only in that it sets no `errno`. So
linking goes by stand-ins made here, whose functions have the first version that glibc had on the kind of machine. That
also links for a machine whose C library is not installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# What LLVM and the sources call, by the file of glibc that has it.
_FUNCTIONS = {
    "libc.so.6": ("memcpy", "memmove", "memset"),
    "libm.so.6": ("exp", "log", "log1p"),
}
_FIRST_VERSIONS = {"x86_64": "GLIBC_2.2.5", "aarch64": "GLIBC_2.17"}


def target_machine(machine: str, cpu: str, features: str) -> Any:
    """LLVM's compiler for a kind of processor."""
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(f"{machine}-unknown-linux-gnu")
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default")


def linker(machine: str) -> list[str]:
    """The command that links for a kind of machine: a C compiler's. It may not be there."""
    if sys.platform == "linux" and os.uname().machine == machine:
        return shlex.split(os.environ.get("CC", "cc"))
    return [f"{machine.replace('_', '-')}-linux-gnu-gcc"]


def can_link(machine: str) -> bool:
    """Whether the command is there."""
    return shutil.which(linker(machine)[0]) is not None


def link(machine: str, objects: list[Path], names: list[str], target: Path) -> None:
    """Make a library of which only ``names`` can be found. Raises OSError or `subprocess.CalledProcessError`."""
    part = target.with_name(f"{target.name}.{os.getpid()}")
    with tempfile.TemporaryDirectory() as folder:
        stand_ins = [_stand_in(machine, file, Path(folder)) for file in _FUNCTIONS]
        exports = _script(Path(folder) / "exports", "", names)
        try:
            options = ["-s", "-Wl,--gc-sections", "-Wl,-z,noexecstack", "-Wl,-z,defs", "-Wl,--as-needed"]
            _run(machine, part, [*options, f"-Wl,--version-script={exports}", *objects, *stand_ins])
            part.replace(target)  # whoever has loaded the old one keeps it
        finally:
            part.unlink(missing_ok=True)


def _stand_in(machine: str, file: str, folder: Path) -> Path:
    """A library that has the names and the versions of one of glibc's, and nothing behind them."""
    from llvmlite import binding

    source = "\n".join(f"define void @{name}() {{ ret void }}" for name in _FUNCTIONS[file])
    compiler = target_machine(machine, "generic", "")
    path = folder / f"{file}.o"
    path.write_bytes(compiler.emit_object(binding.parse_assembly(source)))
    versions = _script(folder / f"{file}.versions", _FIRST_VERSIONS[machine], _FUNCTIONS[file])
    _run(machine, folder / file, [f"-Wl,-soname,{file}", f"-Wl,--version-script={versions}", path])
    return folder / file


def _script(path: Path, version: str, names: list[str] | tuple[str, ...]) -> Path:
    path.write_text(f"{version} {{ global: " + " ".join(f"{name};" for name in names) + " local: *; };\n")
    return path


def _run(machine: str, target: Path, options: list[str | Path]) -> None:
    subprocess.run([*linker(machine), "-shared", "-nostdlib", "-o", target, *options], check=True)
