"""``asr tune MODEL MANIFEST…``: set a model's search weights and confidences on a development set."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from typing import Any

from asr.cli.before_work import need_packages
from asr.cli.corpora import add_corpus_arguments


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "tune",
        help="set a model's search weights on a development set",
        description="Find the language-model weights with the fewest word errors, then fit the words' confidences, "
        "and write both into the model's model.toml. Use speech that the model was not trained on.",
    )
    command.add_argument("model", metavar="MODEL", help="model folder with lm.safetensors in it")
    add_corpus_arguments(command)
    command.add_argument("--beam", type=int, metavar="N", help="hypotheses kept per step (default: tuned too)")
    command.add_argument(
        "--minutes", type=float, default=20.0, metavar="X", help="of each corpus at most so much (default: 20)"
    )
    command.add_argument("--dry-run", action="store_true", help="print what was found and change nothing")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Tune and print what was found."""
    from tqdm import tqdm

    import asr
    from asr.bundle import update_bundle
    from asr.errors import ConfigError
    from asr.recognizer import SHIPPED
    from asr.train.corpus import SampleCache, read_corpus
    from asr.tune import Emission, choose_beam, fit_confidence, judge_words, reliability, try_beams, tune_weights

    recognizer = asr.load(options.model)
    if not options.dry_run:
        need_packages("tomli_w")
        if options.model == SHIPPED:
            folder = recognizer.bundle.path
            raise ConfigError(f"{SHIPPED} comes with asr and stays as it is: tune a copy of {folder}, or add --dry-run")
    if recognizer.bundle.lm is None:
        raise ConfigError(f"{options.model} has no lm.safetensors: make one with `asr lm build` and put it there")
    emissions: list[Emission] = []
    for path in options.corpora:
        utterances = read_corpus(path)
        cache = SampleCache(path, utterances, recognizer.sample_rate_hz, options.cache)
        seconds = 0.0
        for index in tqdm(range(len(utterances)), desc=path.stem, disable=not sys.stderr.isatty(), leave=False):
            samples = cache[index]
            seconds += len(samples) / recognizer.sample_rate_hz
            if seconds > 60 * options.minutes:
                break
            emissions.append(Emission(recognizer.emissions(samples), utterances[index].text))
    second = recognizer.bundle.second_lm is not None
    start = replace(recognizer.bundle.decoding, method="beam")
    if options.beam is not None:
        start = replace(start, beam=options.beam)
    bar = tqdm(unit="trial", disable=not sys.stderr.isatty(), leave=False)

    def report(trial: asr.DecoderOptions, rate: float) -> None:
        bar.update()
        shown = (trial.alpha, trial.beta, trial.oov_penalty, *((trial.second_share,) if second else ()))
        tqdm.write(" ".join(f"{weight:6.2f}" for weight in shown) + f" {100 * rate:8.2f}")

    names = " alpha   beta    oov  share" if second else " alpha   beta    oov"
    print(f"{len(emissions)} utterances, beam {start.beam}\n{names}    WER %")
    best, rate = tune_weights(recognizer, emissions, start, report)
    bar.close()
    also = f", second_share {best.second_share}" if second else ""
    print(f"best: alpha {best.alpha}, beta {best.beta}, oov_penalty {best.oov_penalty}{also}: WER {100 * rate:.2f} %\n")
    if options.beam is None:
        trials = try_beams(recognizer, emissions, best, recognizer.step_s)
        best = replace(best, beam=choose_beam(trials))
        print("  beam    WER %  CPU ms per s of audio")
        for trial in trials:
            print(f"{trial.beam:>6} {100 * trial.rate:>8.2f} {trial.cpu_ms_per_s:>10.2f}")
        print(f"chosen: beam {best.beam}\n")
    judged = judge_words(recognizer, emissions, best)
    # Every other utterance fits the confidences, the rest show whether they hold.
    calibration = fit_confidence([word for words in judged[::2] for word in words])
    rows, gap = reliability([word for words in judged[1::2] for word in words], calibration)
    print("confidence   words   mean   right")
    for row in rows:
        print(f"{int(row.confidence * 10) / 10:>10.1f} {row.words:>7} {row.confidence:>6.3f} {row.right:>7.3f}")
    print(f"mean gap {gap:.3f}")
    if not options.dry_run:
        update_bundle(recognizer.bundle.path, {"decoding": asdict(best), "confidence": asdict(calibration)})
    return 0
