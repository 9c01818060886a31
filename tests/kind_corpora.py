"""A small corpus of every kind, in five made-up languages whose words begin with the language's code."""

import numpy as np

from metaglot.encoders.base import JoinedEncoder
from metaglot.encoders.ngrams import NgramEncoder
from metaglot.types import Corpus, Example, Span
from tiny_tokens import TinyTokens

LANGUAGES = ("eng", "deu", "fra", "spa", "swh")
NAMES = {
    "eng": ("anna", "bob", "carl"),
    "deu": ("otto", "ida", "udo"),
    "fra": ("luc", "zoe", "guy"),
    "spa": ("ana", "luis", "eva"),
    "swh": ("juma", "asha", "neema"),
}
ACTIONS = ("greet", "music", "call")


def encoder():
    """States of single tokens, and n-grams."""
    return JoinedEncoder([TinyTokens(), NgramEncoder(64)])


def corpus(kind):
    """Forty train and eight test sentences of a language: somebody does something to somebody, now."""
    return Corpus(f"{kind} toy", tuple(e for code in LANGUAGES for e in examples(kind, code)), kind=kind)


def examples(kind, code):
    chance = np.random.default_rng(len(kind) * 100 + LANGUAGES.index(code))
    for number in range(48):
        action, name = chance.choice(ACTIONS), chance.choice(NAMES[code])
        words = [f"{code}{action}", str(name), f"{code}now"]
        if chance.random() < 0.5:
            words = [words[2], *words[:2]]
        yield example(
            kind, code, number, str(action), str(name), " ".join(words), bool(chance.random() < 0.5)
        )


def example(kind, code, number, action, name, text, same):
    start = text.index(name)
    here, verb = Span(start, start + len(name), "name"), text.index(code + action)
    given = {"id": str(number), "text": text, "language": code, "split": "train" if number < 40 else "test"}
    if kind == "classification":
        return Example(**given, label=action)
    if kind == "pairs":
        other = " ".join(reversed(NAMES[code]))
        return Example(**given, label="same" if same else "other", pair=text if same else other)
    if kind == "relations":
        entities = (Span(verb, verb + len(code + action), "e1"), Span(here.start, here.end, "e2"))
        return Example(**given, label=action, spans=entities)
    if kind == "parsing":
        root = Span(0, len(text), f"IN:{action.upper()}")
        return Example(**given, label="", spans=(root, Span(here.start, here.end, "SL:NAME")))
    return Example(**given, label=action if kind == "frames" else "", spans=(here,))
