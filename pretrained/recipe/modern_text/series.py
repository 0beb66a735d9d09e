"""The sources that are made of many repositories: a textbook each, a site of questions and answers each."""

from __future__ import annotations

from modern_text.clones import Repository

# Some of these are CC BY-NC-SA today: each is taken at its newest commit whose LICENSE and README say CC BY.
_BOOKS = {
    "american-government": "5c90dd7907dbf25f42266417e63ca3bb0012f031",
    "anatomy-physiology": "b0058a743bdd2cc08196abaaa7d5469970c0d80c",
    "astronomy": "63157f370b09c06a4cc12832384aaaf4de1ced3b",
    "chemistry-bundle": "32c719622fbb7a0ca729cd645c1df4cf4e7d5b3a",
    "college-physics-bundle": "f98d7a792138a6133fe7267d17e70aa04e9ccbed",
    "college-success-bundle": "4c04b87eb2753872c2d442fe9736859ddb27bb72",
    "entrepreneurship": "c1fa2c872ba07dc864c3aeb5a510b08b4f657288",
    "introduction-anthropology": "418eedd9bef21ec1a6fa1b472c0d82c084e35c70",
    "introduction-business": "f99a5bb2eeec22a6fb042f8d95435d5b9e5564da",
    "introduction-intellectual-property": "be76c2d982080df077b6f7f7f784d0bbbc37ee8b",
    "introduction-philosophy": "d7bd4f0f520529b3ad83272448a9c2be25c9040a",
    "introduction-political-science": "4391e659b98eec43b71e8b3f08241215fb4dd4c4",
    "introduction-sociology": "d35d5f3bdac40f93607d600134865d4f13ce1f9b",
    "microbiology": "ecf34dad129d686703780e87ab5aa2e59c577a6a",
    "principles-economics-bundle": "cd31beb103fffbc09cc81ebfe117d8c40cc12d1a",
    "psychology": "e061043bf2f9e86ace51c4e8dc9555160f60a99d",
    "us-history": "046331cfcea0ac1b1a8fd461b3e6aae638845af3",
    "world-history": "3e17beda9130380d24be881e6d1942dfcc1be845",
    "business-ethics": "d64573e2807a1e7ba5d7dec8c36cd815a942b5c7",
    "writing-guide": "a6c95528390e3a2936f5bf87c49ac1a4995a0a6e",
    "principles-marketing": "40369d8ce3adb160cf8d2cc6528cd00be6a472eb",
    "life-liberty-and-pursuit-happiness": "acb6fbe2744dd112187b6aff5946cfe969410fca",
    "introductory-statistics-bundle": "50ec91749080bb040b57bb40c34337cacc994cba",
    "principles-finance": "3b7fc65c527ef51dbee24689691f19947fb72fb2",
    "university-physics-bundle": "db44eb99e9aa1d918fd8cf182f82ccdece9c7b11",
}
# A small site each: beer, coffee, teaching mathematics, 3D printing and others.
_SITES = (
    ("kevswanberg/beer_tentrr", "9573647bff33c61bdce2f07a9000a4098fd3074d"),
    ("Yoav-Shafir/Elasticsearch-Coffee-Search-Engine-JS", "97e93c92aaa379fed6d0ee9be94b2024371d6aba"),
    ("GonzaloHirsch/TP-XML", "a11ea4a889ae684a720c0536892209eaba40a845"),
    ("spreusche/Tp-especial-XML", "edee2d7f4474af0b2e3bb1b2429d9e2c3927175b"),
    ("ArleneDcosta/StackExchangePatternandPrediction", "bc4f1822a63cf2aa9ae945837cda520c176c6dc3"),
    ("jrfoster/spark-intro", "d242829803d27f4fca6a03065fd85749f505dbef"),
    ("arianeborges/sentiment-analysis-with-python", "9851e7c4c71e663d0013a9833bd2b1c4fed08d7c"),
    ("mattly/ssdug-graphql", "5fefaa1c2dec9a7a5d8c55e2535853c0550d61ee"),
)

BOOKS = tuple(Repository(f"openstax/osbooks-{book}", commit, r"^modules/.*\.cnxml$") for book, commit in _BOOKS.items())
STACKS = tuple(Repository(name, commit, r"^(data/)?Posts\.xml$") for name, commit in _SITES)
