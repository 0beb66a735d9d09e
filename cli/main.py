"""``asr``: the command line's entry point."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from asr.errors import AsrError
from asr.version import __version__


def parser() -> argparse.ArgumentParser:
    """The whole command line. Subcommand modules add their own part and load the engine only when run."""
    from asr.cli import (
        completion,
        devices,
        doctor,
        evaluate,
        lexicon,
        lm,
        mic,
        punctuation,
        serve,
        train,
        transcribe,
        tune,
    )

    root = argparse.ArgumentParser(prog="asr", description="Streaming speech-to-text on an ordinary CPU, offline.")
    root.add_argument("--version", action="version", version=f"asr {__version__}")
    commands = root.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    makers = train, lm, punctuation, lexicon, tune
    for module in (transcribe, mic, devices, serve, evaluate, *makers, doctor, completion):
        module.add_arguments(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its status: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except AsrError as error:
        print(f"asr: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (`asr … | head`): say nothing, as other tools do.
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.filename is None:  # nothing that a person named
            raise
        print(f"asr: cannot use {error.filename}: {error.strerror}. Check the name and your rights", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
