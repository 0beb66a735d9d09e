"""What the word search keeps and reads: flat arrays of records, and what their fields mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.lm.lookup import LmArrays
from asr.search.lexicon_tree import TreeArrays
from asr.search.second_kernel import Memories

NODES_PER_STEP, MARKS_PER_STEP = 2, 3  # new ones, times the beam, at most
ALTERNATIVES = 4  # remembered of each mark
ROOT, OFF = 0, -1  # places: a closed word; outside the lexicon's tree, within a hot word
NOTHING, OUTSIDE = 0, 1  # states of the hot words: between words with no phrase begun; in a word that is none of theirs

# Places in `Search.counts`.
HYPOTHESES, NODES, MARKS, STEPS, LAST_SOUND, SETTLED_WORDS, SETTLED_SOUNDS, BEST, SHARED, WORDS, SOUNDS, FOUND = range(
    12
)
COUNTS = 12
# Places in `Search.weights`.
ALPHA, BETA, OOV, TOKEN_FLOOR, BEAM_RANGE, BLANK_CEILING, SLACK, SECOND_SHARE, SECOND_RANGE = range(9)
UNKNOWN = 256  # place in `Search.singles` of a word that the language model does not know
# Places in `Search.switches`.
RECOMBINE, KEEP, FEW, SECOND_MOST = range(4)


NODE = np.dtype(  # the words so far; node 0 is the root: all words before it are settled
    [
        ("before", np.int32),  # the node without the last word; the root's is -1
        ("word", np.int32),  # the last word
        ("depth", np.int32),  # number of words since the utterance began
        ("context", np.int32),  # what the language model remembers: its state, or -1
        ("key", np.uint64),  # hash of the words, by which equal texts are found
        ("weighed", np.int32),  # 1 if the second language model has spoken of the last word
        ("memory", np.int32),  # the row of what that model remembers of the words, or -1
        ("bonus", np.float64),  # what the language models and the hot words add
    ],
    align=True,
)
MARK = np.dtype(  # of an alignment: one token in it
    [
        ("before", np.int32),  # the mark of the token before, or -1
        ("depth", np.int32),  # the number of its word, counted from 1
        ("step", np.int32),  # the step at which the token began
        ("peak", np.float64),  # its greatest log probability
    ],
    align=True,
)
HYPOTHESIS = np.dtype(
    [
        ("node", np.int32),
        ("place", np.int32),  # in the lexicon's tree: ROOT, OFF or where the unfinished word has come to
        ("hot", np.int32),  # state of the hot words
        ("token", np.int32),  # the last token, or -1
        ("mark_blank", np.int32),  # the likeliest alignment that ends in blank, as the mark of its last token
        ("mark_token", np.int32),  # the same of those that end in the last token
        ("best_blank", np.float64),  # log probability of the likeliest alignment that ends in blank
        ("best_token", np.float64),
        ("blank", np.float64),  # log of the sum over all alignments that end in blank
        ("sound", np.float64),  # the same of those that end in the last token
        ("total", np.float64),  # log of both sums together
        ("ahead", np.float64),  # what is lent to the unfinished word or phrase
        ("score", np.float64),  # the total, with the node's bonus and what is lent
        ("key", np.uint64),  # hash of words, place, hot and token
    ],
    align=True,
)
CANDIDATE = np.dtype(  # a hypothesis with one more token, which may get into the beam
    [
        ("source", np.int32),  # the hypothesis that it grows from: of the likeliest alignment
        ("place", np.int32),
        ("hot", np.int32),
        ("token", np.int32),
        ("word", np.int32),  # that is closed here, or -1
        ("context", np.int32),
        ("best", np.float64),  # log probability of the likeliest alignment
        ("total", np.float64),  # log probability by sound alone
        ("bonus", np.float64),  # of its node
        ("ahead", np.float64),
        ("score", np.float64),
        ("key", np.uint64),
    ],
    align=True,
)
SOUND = np.dtype(  # of a text that is read
    [("word", np.int32), ("step", np.int32), ("peak", np.float64)],
    align=True,
)
ASKED = np.dtype(  # what the language model answered, by context and word
    [("context", np.int32), ("word", np.int32), ("after", np.int32), ("log_prob", np.float32)],
    align=True,
)
FORESEEN = np.dtype(  # what is ahead at a place, by context
    [("context", np.int32), ("place", np.int32), ("log_prob", np.float64)],
    align=True,
)
ALTERNATIVE = np.dtype(  # another text that had come to where a mark was, with the same future, and lost
    [
        ("node", np.int32),  # its words, or -1 if there is none
        ("mark", np.int32),  # its alignment
        ("depth", np.int32),  # how many words the text that won had closed
        ("step", np.int32),  # when it lost: what followed the mark before that did not follow this
        ("loss", np.float64),
    ],
    align=True,
)
Rows = np.recarray[Any, Any]


class HotArrays(NamedTuple):
    """What follows all hot phrases at once: see `hot_phrases`. State 0 has begun none, state 1 is outside."""

    next: np.ndarray  # int32 (states, tokens): the state after one more token of a word
    lent: np.ndarray  # float64 (states,): lent to a phrase that is not complete yet
    earned: np.ndarray  # float64 (states,): kept for the phrases that are complete here
    more: np.ndarray  # bool (states,): whether any token leads to a state other than OUTSIDE
    first_close: np.ndarray  # int32 (states + 1,): where a state's words begin
    close_word: np.ndarray  # int32: a word of a phrase that may be closed here
    close_state: np.ndarray  # int32: and the state after it
    first_extra: np.ndarray  # int32 (states,): where the words begin that end here and not in the lexicon's tree
    last_extra: np.ndarray  # int32 (states,)
    extra_word: np.ndarray  # int32


class Search(NamedTuple):
    """All of a decoder's state, and what it reads. What it has not for itself is in `working_memory.Shared`."""

    counts: np.ndarray  # int64 (COUNTS,)
    weights: np.ndarray  # float64 (9,)
    switches: np.ndarray  # int64 (4,)
    nodes: Rows  # NODE (n,)
    alternatives: Rows  # ALTERNATIVE (m or 1, ALTERNATIVES): of each mark
    marks: Rows  # MARK (m,)
    hypotheses: Rows  # HYPOTHESIS (beam,), in no order
    grown: Rows  # HYPOTHESIS (2 * beam,): those that stay, then the beam after the step
    fresh: np.ndarray  # int32 (beam,): the hypothesis whose alignment became the likeliest one of another's, or -1
    candidates: Rows  # CANDIDATE (c,)
    ranks: np.ndarray  # float64 (c + beam,)
    slots: np.ndarray  # int64 (a power of two,): hash table of hypotheses and candidates, each with the step's number
    stamp: np.ndarray  # int64 (1,): counts the fillings of the table
    winners: np.ndarray  # int32 (c + beam,): of those with one future, the likeliest
    admitted: np.ndarray  # int32 (c + beam,): the place in the new beam, or -1
    likely: np.ndarray  # int32 (tokens,)
    singles: np.ndarray  # float64 (257,): what the language model says of single words, by their codes; see `UNKNOWN`
    begun: np.ndarray  # float64 (tokens,): the most that it says of words that begin with these, by themselves
    asked: Rows  # ASKED (a power of two,): a cache
    foreseen: Rows  # FORESEEN (a power of two,): a cache
    places: np.ndarray  # int32, as long as the longer of nodes and marks: working memory
    settled_words: np.ndarray  # int32: the words before the root
    settled_sounds: Rows  # SOUND: theirs
    words: np.ndarray  # int32 (n,): the words that `read` has read, from the root on, at its end
    sounds: Rows  # SOUND (m,): theirs, at its end
    blank: int
    known: int  # words from this number on are unknown to the language model
    tree: TreeArrays
    hot: HotArrays
    lm: LmArrays
    has_lm: bool
    gains: np.ndarray  # float64, as long as nodes: working memory
    second: Memories
    has_second: bool
