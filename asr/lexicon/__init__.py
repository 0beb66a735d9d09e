"""How words are said.

lexicon = Lexicon.load(path)
pronunciations, source = Pronouncer([lexicon], GraphemeToPhoneme.load(g2p_path)).pronounce("zhivago's")
"""

from asr.lexicon.g2p import GraphemeToPhoneme
from asr.lexicon.lexicon import Lexicon, read_lexicon, write_lexicon
from asr.lexicon.pronounce import Pronouncer

__all__ = ["GraphemeToPhoneme", "Lexicon", "Pronouncer", "read_lexicon", "write_lexicon"]
