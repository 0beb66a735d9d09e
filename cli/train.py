"""``asr train CONFIG``: train an acoustic model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from asr.cli.before_work import need_packages, refuse_unwritable

from asr.errors import ConfigError

# Training allocates and frees hundreds of megabytes a step. Kept and backed by huge pages, that memory
# costs nothing; by default glibc gives it back each time, which takes a third of the training time.
_MALLOC = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(20 * 1024**3),
}


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "train",
        help="train an acoustic model",
        description="Train an acoustic model as a TOML file says, going on where an interrupted run stopped.",
    )
    command.add_argument(
        "config", type=Path, metavar="CONFIG", help="TOML file; see docs/train.toml for one with every key"
    )
    command.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME beside the file)"
    )
    command.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU if there is one")
    command.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="share the work among N processes (one thread each on a CPU)",
    )
    command.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads of a single process (default: all cores)"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train until the configured number of steps is done."""
    need_packages("torch", "tomli_w")
    if sys.platform == "linux" and not any(key in os.environ for key in _MALLOC):
        # The allocator reads its settings at start-up only.
        os.execve(sys.executable, [sys.executable, "-m", "asr.cli", *sys.argv[1:]], {**os.environ, **_MALLOC})
    import torch

    from asr.train.config import load_config

    # Errors show here, once, and not in every process.
    load_config(options.config)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no GPU here; use --device cpu, or install torch with CUDA")
    output = _output(options)
    output.mkdir(parents=True, exist_ok=True)
    refuse_unwritable(output / "log.jsonl")
    if options.processes == 1:
        _train(options)
        return 0
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(_free_port()))
    torch.multiprocessing.spawn(_train_process, args=(options,), nprocs=options.processes)  # type: ignore[no-untyped-call]
    return 0


def _train_process(rank: int, options: argparse.Namespace) -> None:
    import torch
    import torch.distributed as dist

    gpu = options.device != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[rank % len(cores)]})
    dist.init_process_group("nccl" if gpu else "gloo", rank=rank, world_size=options.processes)
    try:
        _train(options)
    finally:
        dist.destroy_process_group()


def _train(options: argparse.Namespace) -> None:
    import torch

    from asr.train.config import load_config
    from asr.train.trainer import train

    if options.threads:
        torch.set_num_threads(options.threads)
    config = load_config(options.config)
    train(config, options.config.resolve().parent, _output(options), options.device)


def _output(options: argparse.Namespace) -> Path:
    """The run's folder."""
    beside: Path = options.config.resolve().parent / "runs" / options.config.stem
    return options.output or beside


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
