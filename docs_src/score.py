"""Drafts of two systems scored, and compared by a paired bootstrap."""

from rich import print

from metaglot.generation.scores import compare, compare_languages, score

drafts = ["Faili haipo.", "Hifadhi mabadiliko", "Ingia tena"]
others = ["Faili hii haipo.", "Okoa badiliko", "Ingia"]
references = ["Faili haipo.", "Hifadhi mabadiliko yote", "Ingia tena"]

print(*score(drafts, references, language="swh"))
print(compare(drafts, others, references, "chrf++"))

systems = {"swh": (drafts, others, references), "lug": (others, drafts, references)}
print(compare_languages(systems, "chrf++", samples=1000, seed=0))
