"""What an artifact holds."""

import metaglot as mg

artifact = mg.load("assistant")
print(artifact.facts["sources"], artifact.model.labels)
for language, adaptation in artifact.adaptations.items():
    print(language, adaptation.examples, adaptation.estimate)
    for name, values in adaptation.head.items():
        print(" ", name, tuple(values.shape))
