"""Which repositories the texts are made of, under which licences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from modern_text import prose, talk
from modern_text.clones import File, Repository
from modern_text.series import BOOKS, STACKS


@dataclass(frozen=True)
class Source:
    """A text and what it is made of."""

    name: str  # of the text
    repositories: tuple[Repository, ...]
    licence: str  # of what is taken from them
    what: str
    read: Callable[[Iterable[File]], Iterator[str]]  # raw lines of the files
    fewest: int  # words of a line
    whole: bool = True  # a line must end like a sentence


# The meetings that dev and test sets of AMI and ICSI are usually made of stay out.
_MEASURED = "ES2004|IS1009|TS3003|EN2002|ES2011|IS1008|TS3004|IB40|Bmr021|Bns001|Bmr013|Bmr018|Bro021"


def _one(name: str, commit: str, files: str) -> tuple[Repository]:
    return (Repository(name, commit, files),)


SOURCES = (
    Source(
        "changelog",
        _one(
            "thechangelog/transcripts",
            "44a0e16c5919d332e05de481919fbfca90a2c90b",
            r"^(?!bigtent/|\.|scripts/).*/.*\.md$",
        ),
        "CC BY-SA 4.0",
        "interviews and panels: ten podcasts on software, edited by hand",
        talk.changelog,
        fewest=2,
    ),
    Source(
        "bitcointranscripts",
        _one(
            "bitcointranscripts/bitcointranscripts",
            "52ccbbe25d18a1db9403526a8b8b3b0be9ff6959",
            r"^[^./][^/]*/.*(?<!\.[a-z][a-z])\.md$",
        ),
        "MIT",
        "talks at conferences, seminars, interviews",
        talk.bitcointranscripts,
        fewest=3,
    ),
    Source(
        "bitcoinops",
        _one(
            "bitcoinops/bitcoinops.github.io", "082bd77bb8008b8a31df390d0a515f4b6413b082", r"^_posts/en/podcast/.*\.md$"
        ),
        "MIT",
        "a weekly panel, edited by hand",
        talk.bitcoinops,
        fewest=3,
    ),
    Source(
        "meetings",
        _one(
            "Yale-LILY/QMSum",
            "83d7768c1f2b4dfeb091385d3dc7e239b8e5bb7e",
            rf"^data/(?!.*({_MEASURED}))(Academic|Committee|Product)/all/.*\.json$",
        ),
        "MIT; of the AMI and ICSI meetings CC BY 4.0",
        "meetings of designers, researchers and committees of parliaments",
        talk.meetings,
        fewest=2,
    ),
    Source(
        "sgd",
        _one(
            "google-research-datasets/dstc8-schema-guided-dialogue",
            "e852981ae34990f4358979625854259302feaa78",
            r"^train/dialogues_.*\.json$",
        ),
        "CC BY-SA 4.0",
        "talk with an assistant: bookings, banks, weather; many numbers, times and names",
        talk.sgd,
        fewest=2,
        whole=False,
    ),
    Source(
        "taskmaster",
        _one(
            "google-research-datasets/Taskmaster",
            "d92cb6af3005f1dc09c39e75e7daf4a04905e00b",
            r"^TM-4-2024/data/.*\.json$",
        ),
        "CC BY 4.0",
        "ordering coffee",
        talk.taskmaster,
        fewest=2,
        whole=False,
    ),
    Source(
        "topicalchat",
        _one("alexa/Topical-Chat", "7c939229cbcf6f55f6977b341a5a2f2fe982d53f", r"^conversations/.*\.json$"),
        "CDLA-Sharing 1.0",
        "chat about sport, films, politics, animals",
        talk.topicalchat,
        fewest=2,
        whole=False,
    ),
    Source(
        "banking",
        _one(
            "PolyAI-LDN/task-specific-datasets",
            "57ec275d8078af65b7731c2a98be812d844a6d6b",
            r"^banking_data/train\.csv$",
        ),
        "CC BY 4.0",
        "customers' questions to a bank",
        talk.banking,
        fewest=3,
    ),
    Source(
        "presidents",
        _one("kfogel/presidential-speeches", "a4c8b38eeba49703f515a701db03e60417e042e6", r"^data/"),
        "public domain: works of the US government",
        "speeches, press conferences and debates of US presidents since 1933",
        talk.presidents,
        fewest=4,
    ),
    Source(
        "apollo",
        _one(
            "Spacelog/Spacelog",
            "4d3bfefd8aae9e341d379ddd3c2cf8793c8e3e7a",
            r"^missions/(a|g|m)\w*/transcripts/(TEC|CM|ATG|PAO)$",
        ),
        "public domain: works of NASA",
        "radio talk of Mercury, Gemini and Apollo",
        talk.apollo,
        fewest=2,
    ),
    Source(
        "wikipedia",
        (
            Repository(
                "ZhouYii/PatchedDistro", "961716d8a5a0df1a6373a4d61e360a0b5d1b85cd", r"^data/[A-Z][A-Z]/wiki_\d[02468]$"
            ),
            Repository(
                "jason-feng/wikiVisual", "1c0fac92f29f17c1603bfffbe864e0dfdff66897", r"^text/[A-Z][A-Z]/wiki_\d[05]$"
            ),
        ),
        "CC BY-SA 3.0: Wikipedia's own; the repositories do not name it",
        "encyclopaedia of about 2014",
        prose.wikipedia,
        fewest=8,
    ),
    Source(
        "openstax",
        BOOKS,
        "CC BY 4.0",
        "textbooks of history, society, nature, economics, business, writing",
        prose.openstax,
        fewest=6,
    ),
    Source(
        "wikinews",
        _one("vanatteveldt/wikinews", "347254178bf343f3801aac1d03c41cc09c35decb", r"\.csv$"),
        "CC BY 2.5",
        "news and interviews of 2019 and 2020",
        prose.wikinews,
        fewest=6,
    ),
    Source(
        "currentevents",
        _one("fordred/wikinews", "0441f5273b8763fa543a6148b97efbbbae37b371", r"^docs/_posts/.*\.md$"),
        "CC BY-SA 4.0",
        "Wikipedia's current events of 2024 to 2026, a sentence or two each",
        prose.currentevents,
        fewest=6,
    ),
    Source(
        "government",
        (
            Repository("18F/18f.gsa.gov", "0a55c75e6d9bc71c80136a3867dac52356177443", r"^content/.*\.(md|html)$"),
            Repository("18F/handbook", "1e4955634d0369f17e5bbc0ebbf8f62e2a3dfe4b", r"^pages/.*\.(md|html)$"),
            Repository("GSA/digitalgov.gov", "4979583206d90ff1707b097454a9b169ca9e95e4", r"^content/(?!es/).*\.md$"),
        ),
        "public domain, CC0",
        "blogs, news and guides of US federal offices",
        prose.government,
        fewest=6,
    ),
    Source(
        "turingway",
        _one(
            "alan-turing-institute/the-turing-way",
            "318e1b3dafe626eff60d7b20ff83a2d43fad05b0",
            r"^(book|communications|conferences)/.*\.md$",
        ),
        "CC BY 4.0",
        "handbook on research",
        prose.turingway,
        fewest=6,
    ),
    Source("stackexchange", STACKS, "CC BY-SA 3.0 and 4.0", "questions and answers", prose.stackexchange, fewest=6),
    Source(
        "blogs",
        (
            Repository("mtlynch/mtlynch.io", "74407c2fd6c2501426fac3e78d50cafae5b4794d", r"^content/.*\.md$"),
            Repository("github/opensource.guide", "ebc9678e39b55ff5e5c8801d1960904692188e90", r"^_articles/[^/]*\.md$"),
        ),
        "CC BY 4.0",
        "a blog and a guide",
        prose.pages,
        fewest=6,
    ),
    Source(
        "cooking",
        _one("LukeSmithxyz/based.cooking", "2d8642ec41ccc6162ec3123c15024dd3d22cc33b", r"^(content|src)/.*\.md$"),
        "public domain",
        "steps of recipes",
        prose.pages,
        fewest=5,
    ),
    Source(
        "health",
        _one("abachaa/MedQuAD", "577bd37b96c02d1833b2c9eed2de9f96964e96cb", r"^(1|2|3|4|6)_.*\.xml$"),
        "CC BY 4.0",
        "health information for the public; folders 5, 7, 8 and 9 have lost their apostrophes",
        prose.health,
        fewest=6,
    ),
)
