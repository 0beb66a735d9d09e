"""One decoder on recorded emissions: CPU time and texts. Started by decoder.py, in the decoder's own environment.

    python decoder_worker.py NAME FOLDER BEAM…

FOLDER holds emissions.npz (log probabilities of each utterance), labels.txt, words.txt, lm.arpa and weights.json.
Prints a JSON object a beam. Only the standard library and NumPy are imported besides the decoder itself.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Decode = Callable[[np.ndarray], str]

LN10 = math.log(10)


def weights(folder: Path) -> dict[str, float]:
    """alpha, beta and oov_penalty of the shipped model, in natural logs."""
    found: dict[str, float] = json.loads((folder / "weights.json").read_text())
    return found


def own(folder: Path, beam: int, chunk: int = 0) -> Decode:
    from dataclasses import replace

    import asr

    recognizer = asr.load()
    options = replace(recognizer.bundle.decoding, beam=beam)

    def decode(log_probs: np.ndarray) -> str:
        decoder = recognizer.make_decoder(options)
        for begin in range(0, len(log_probs), chunk or len(log_probs)):
            decoder.accept(log_probs[begin : begin + (chunk or len(log_probs))])
            if chunk:
                decoder.best()
                decoder.stable_chars()
        return decoder.finals()[0].text

    return decode


def flashlight(folder: Path, beam: int) -> Decode:
    from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions, SmearingMode, Trie
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary, create_word_dict

    labels = [line.replace("<space>", "|") for line in (folder / "labels.txt").read_text().split("\n")]
    tokens = Dictionary(labels)
    words = (folder / "words.txt").read_text().split()
    lexicon = {word: [[*word, "|"]] for word in words}
    word_dict = create_word_dict({**lexicon, "<unk>": []})
    lm = KenLM(str(folder / "lm.arpa"), word_dict)
    trie = Trie(tokens.index_size(), tokens.get_index("|"))
    start = lm.start(False)
    for word in words:
        index = word_dict.get_index(word)
        _, score = lm.score(start, index)
        trie.insert([tokens.get_index(token) for token in lexicon[word][0]], index, score)
    trie.smear(SmearingMode.MAX)
    options = LexiconDecoderOptions(
        beam_size=beam,
        beam_size_token=8,  # all 29 take 1.6 times as long for 0.3 % fewer word errors
        beam_threshold=14.0,
        lm_weight=weights(folder)["alpha"] * LN10,  # its scores are log10
        word_score=weights(folder)["beta"],
        unk_score=-math.inf,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    decoder = LexiconDecoder(options, trie, lm, tokens.get_index("|"), 0, word_dict.get_index("<unk>"), [], False)

    def decode(log_probs: np.ndarray) -> str:
        rows = np.ascontiguousarray(log_probs, dtype=np.float32)
        best = decoder.decode(rows.ctypes.data, *rows.shape)[0]
        return " ".join(word_dict.get_entry(index) for index in best.words if index >= 0)

    return decode


def _labels(folder: Path) -> list[str]:
    labels = [line.replace("<space>", " ") for line in (folder / "labels.txt").read_text().split("\n")]
    return ["", *labels[1:]]


def _kensho(build: Callable[..., Any], folder: Path, beam: int) -> Decode:
    words, w = (folder / "words.txt").read_text().split(), weights(folder)
    decoder = build(
        _labels(folder),
        str(folder / "lm.arpa"),
        words,
        alpha=w["alpha"],
        beta=w["beta"],
        unk_score_offset=w["oov_penalty"] / (w["alpha"] * LN10),  # it is weighted as the model's log10 scores are
    )
    return lambda log_probs: str(decoder.decode(log_probs, beam_width=beam))


def pyctcdecode(folder: Path, beam: int) -> Decode:
    from pyctcdecode import build_ctcdecoder

    return _kensho(build_ctcdecoder, folder, beam)


def ctc_beam_decoder(folder: Path, beam: int) -> Decode:
    from ctc_beam_decoder import build_ctcdecoder

    return _kensho(build_ctcdecoder, folder, beam)


DECODERS = {
    "asr": own,
    "asr-120ms": lambda folder, beam: own(folder, beam, chunk=4),
    "flashlight-text": flashlight,
    "ctc-beam-decoder": ctc_beam_decoder,
    "pyctcdecode": pyctcdecode,
}


def main() -> None:
    name, folder, beams = sys.argv[1], Path(sys.argv[2]), [int(beam) for beam in sys.argv[3:]]
    with np.load(folder / "emissions.npz") as file:
        emissions = [file[key] for key in sorted(file.files)]
    for beam in beams:
        decode = DECODERS[name](folder, beam)
        decode(emissions[0])  # what is built or compiled on first use is not counted
        started = time.process_time()
        texts = [decode(log_probs) for log_probs in emissions]
        print(json.dumps({"beam": beam, "cpu_s": time.process_time() - started, "texts": texts}), flush=True)


if __name__ == "__main__":
    main()
