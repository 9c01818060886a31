"""The built-in bitext in three languages, and what does not help to learn from it."""

from rich import print

from metaglot.bitext import clean, load_bitext

bitext, report = clean(load_bitext("django", options={"languages": ["swh", "ind", "tur"]}))
print(report)
for pair in bitext.into("eng").select("swh", "dev")[:2]:
    print(pair.id, pair.source, "→", pair.target)
