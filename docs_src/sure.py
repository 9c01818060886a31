"""Labels of new texts, or the admission that they are not known."""

import metaglot as mg

artifact = mg.load("assistant")
texts = ["washa taa ya jikoni", "nataka pizza"]
for found in mg.predict(artifact, texts, "swh", precision=0.9):
    label, chance = found.labels[0]
    known = found.sure and found.in_scope is not False
    print(found.text, "→", f"{label} {chance:.0%}" if known else "I don't know")
