"""From a folder of your own, and one file of a new language, to predictions."""

from pathlib import Path

import metaglot as mg

corpus = mg.load_corpus("commands")  # commands/<language>/{train,test}.jsonl
for notice in corpus.notices:
    print("note:", notice)

artifact = mg.train(corpus, mg.Recipe(corpus="commands"))
mg.save(artifact, Path("assistant"))

examples = mg.load_examples("swahili.csv", language="swh")
adapted = mg.adapt(artifact, "Swahili", examples)
for notice in adapted.notices:
    print("note:", notice)
if adapted.adaptation.estimate is not None:
    print(mg.Estimate(**adapted.adaptation.estimate))
mg.save_adaptation(adapted.adaptation, Path("assistant"))

for found in mg.predict(mg.load("assistant"), ["washa taa ya jikoni"], "Swahili"):
    label, probability = found.labels[0]
    print(found.text, label, f"{probability:.0%}")
