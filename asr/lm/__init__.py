"""N-gram language models: read, estimate, prune, store, score.

`asr.lm.model` is the stored model and all that recognition needs; `asr.lm.arpa` reads and writes the
format that other toolkits share; `asr.lm.estimate` and `asr.lm.prune` make a model from text.
"""

from asr.lm.model import LanguageModel

__all__ = ["LanguageModel"]
