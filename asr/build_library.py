"""Compile what recognition calls into libraries, for `asr.library` to find: ``python -m asr.build_library FOLDER``.

Run when the package is built. Numba compiles the same functions that it would compile at their first use, for the
kinds of arguments that recognition has for them; LLVM writes them out, and `asr.link_library` makes a library of them.
For x86 that is Numba's code as it is. For AArch64, which is built for on other machines too, Numba is told to optimise
nothing, since it would do so for the machine that it runs on; LLVM then does all of it for each kind of processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from asr.compiler import Entry, describe
from asr.library import LEVELS, MACHINE, SWITCH, Level, levels, machine, symbol
from asr.link_library import can_link, link, linker, target_machine

Call = tuple[Entry, tuple[Any, ...]]


def build(folder: Path, wanted: list[Level]) -> None:
    """Write a library for each level. Raises `subprocess.CalledProcessError` or OSError if something is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = [level for level in wanted if _from_plain(level)]
    with tempfile.TemporaryDirectory() as cache:
        for together in [*([level] for level in wanted if level not in plain), plain]:
            if together:
                names = [level.name for level in together]
                environment = {**os.environ, **_settings(together[0]), SWITCH: "numba", "NUMBA_CACHE_DIR": cache}
                quiet = "ignore:Cannot cache compiled function"  # so Numba says of what it has not optimised
                command = [sys.executable, "-W", quiet, "-m", "asr.build_library", str(folder), "--here", *names]
                subprocess.run(command, env=environment, check=True)


def _from_plain(level: Level) -> bool:
    """Whether its code is optimised by LLVM alone, from what Numba has not optimised."""
    return level.machine != "x86_64"


def _settings(level: Level) -> dict[str, str]:
    """What Numba, which decides once in a process, is told of what it compiles for."""
    if _from_plain(level):
        return {MACHINE: level.machine, "NUMBA_OPT": "0"}
    features = level.llvm_features or "+avx2"
    return {MACHINE: level.machine, "NUMBA_CPU_NAME": level.llvm_cpu, "NUMBA_CPU_FEATURES": features}


def build_here(folder: Path, wanted: list[Level]) -> None:
    """Write the libraries of levels that one compilation serves; Numba must have been told of them before."""
    names = []
    objects: dict[str, list[Path]] = {level.name: [] for level in wanted}
    with tempfile.TemporaryDirectory() as place:
        for number, (entry, arguments) in enumerate(_distinct(_calls(wanted[0].machine == "x86_64"))):
            name = symbol(entry.name, tuple(describe(argument, []) for argument in arguments))
            names.append(name)
            code = _compile(entry, arguments, name)
            for level in wanted:
                path = Path(place) / f"{level.name}.{number}.o"
                path.write_bytes(_emit(code, name, level))
                objects[level.name].append(path)
        for level in wanted:
            link(level.machine, objects[level.name], names, folder / f"{level.name}.so")


def _compile(entry: Entry, arguments: tuple[Any, ...], name: str) -> str:
    """LLVM's code of a function that reads the entry's arguments from memory and calls it."""
    import numba
    from llvmlite import binding

    from asr.array_types import type_of_arguments

    kind = type_of_arguments(arguments)
    given = ", ".join(f"words.{field}" for field, _ in kind.fields)
    scope: dict[str, Any] = {"entry": entry}
    exec(f"def call(words): return entry({given})", scope)
    njit: Any = numba.njit  # whose types do not know all of its options
    dispatcher = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **entry.targetoptions)(scope["call"])
    dispatcher.compile((kind,))
    compiled = dispatcher.overloads[(kind,)]
    module = binding.parse_assembly(compiled.library.get_llvm_str())
    module.get_function(compiled.fndesc.llvm_func_name).name = name
    return str(module)


def _emit(code: str, name: str, level: Level) -> bytes:
    """An object file of a function's code."""
    from llvmlite import binding

    compiler = target_machine(level.machine, level.llvm_cpu, level.llvm_features)
    module = binding.parse_assembly(code)
    if _from_plain(level):
        module.triple, module.data_layout = compiler.triple, str(compiler.target_data)
        for function in module.functions:
            if not function.is_declaration and function.name != name:
                function.linkage = "internal"  # else what was inlined everywhere would be kept
        tuning = binding.PipelineTuningOptions(speed_level=3)
        tuning.loop_vectorization = tuning.slp_vectorization = True
        passes = binding.create_pass_builder(compiler, tuning)
        passes.getModulePassManager().run(module, passes)
    written: bytes = compiler.emit_object(module)
    return written


def _distinct(calls: list[Call]) -> Iterator[Call]:
    seen = set()
    for entry, arguments in calls:
        key = entry.name, tuple(describe(argument, []) for argument in arguments)
        if key not in seen:
            seen.add(key)
            yield entry, arguments


def _calls(packed: bool) -> list[Call]:
    """A call of each function with each kind of arguments that recognition has for it; ``packed``: for x86 too."""
    with _collected() as calls:
        _call_features()
        _call_lexicon()
        _call_search()
        _call_network(packed)
        _call_punctuation()
    return calls


@contextmanager
def _collected() -> Iterator[list[Call]]:
    """What is called here is not run but noted."""
    calls: list[Call] = []

    def note(entry: Entry, *arguments: Any) -> int:
        calls.append((entry, arguments))
        return 0

    call, Entry.__call__ = Entry.__call__, note  # type: ignore[method-assign, assignment]
    try:
        yield calls
    finally:
        Entry.__call__ = call  # type: ignore[method-assign]


def _call_features() -> None:
    from asr.network.features import Fbank, FeatureOptions

    options = FeatureOptions()
    Fbank(options)(np.zeros((1, options.window_samples), np.float32))


def _call_lexicon() -> None:
    from asr.lexicon.lexicon import unfold

    unfold(*(np.zeros(1, np.uint8) for _ in range(4)))


def _call_search() -> None:
    from asr.lexicon.lexicon import Lexicon
    from asr.lexicon.phonemes import TOKENS
    from asr.lm import LanguageModel
    from asr.search.decoder import DecoderOptions
    from asr.search.lexicon_tree import LexiconTree
    from asr.search.word_beam import WordBeamDecoder
    from asr.search.word_reading import read_other
    from asr.search.word_weighing import carry

    tree = LexiconTree.of_lexicon(Lexicon({"a": [(1,)]}), LanguageModel.empty())
    decoder = WordBeamDecoder(DecoderOptions(), TOKENS, tree, LanguageModel.empty())
    decoder.accept(np.zeros((1, len(TOKENS))))
    read_other(decoder.table(), 0)
    carry(decoder.table(), 0)


def _call_network(packed: bool) -> None:
    from asr.array_table import ArrayTable
    from asr.network import packed_kernel, packed_weights, quantized_kernel
    from asr.network.quantized_weights import quantize
    from asr.network.shape import FRAME_REDUCTION, GATES, ModelOptions
    from asr.network.state import StreamState
    from asr.network.weights import shapes

    options = ModelOptions(mels=8, tokens=4, layers=1, blocks=1, width=8, conv_width=8, lookahead_ms=0)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes(options).items()}
    quantized = quantize(options, weights)
    state = StreamState.initial(options, weights["mean"])
    frames, logits = np.zeros((1, FRAME_REDUCTION, 8), np.float32), np.zeros((1, 1, 4), np.float32)
    step = quantized_kernel.make_step(frames, state, logits, options.conv_width)
    quantized_kernel.advance(ArrayTable(quantized), ArrayTable(step))
    if packed:
        gates = GATES[options.cell] * options.width
        packed_step = packed_kernel.make_step(frames, state, logits, options.conv_width, gates, options.stacked)
        packed_kernel.advance(ArrayTable(packed_weights.pack(quantized)), ArrayTable(packed_step))


def _call_punctuation() -> None:
    from asr.array_table import ArrayTable
    from asr.lm import LanguageModel
    from asr.network.flat_products import no_weights
    from asr.network.quantized_weights import Norm, constant
    from asr.written.punctuation_kernel import Layers, MarkWeights, decide, make_step
    from asr.written.sentence_hints import HINTS, WORDS_READ, hint_word

    vector = np.zeros(8, np.float32)
    layers = Layers(no_weights(), np.zeros(1, np.int32), *np.zeros((2, 1, 8), np.float32))
    norm = Norm(vector, vector)
    weights = constant(MarkWeights(layers, layers, layers, layers, norm, norm))
    decide(ArrayTable(weights), ArrayTable(make_step(weights, 8)))
    hint_word(ArrayTable(LanguageModel.empty().arrays), np.zeros(WORDS_READ, np.int64), np.zeros(HINTS, np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the libraries go")
    parser.add_argument("--all", action="store_true", help="for all kinds of processors, not only the best of this one")
    parser.add_argument("--here", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    wanted = [level for level in LEVELS if level.machine == machine()] if options.all else levels()[:1]
    if not wanted:
        sys.exit("there is no library for this kind of machine")
    if not can_link(machine()):
        sys.exit(f"a C compiler is needed to link: no {linker(machine())[0]} found")
    if options.here is not None:
        build_here(options.folder, [level for level in LEVELS if level.name in options.here])
    else:
        build(options.folder, wanted)


if __name__ == "__main__":
    main()
