"""Choose a learner's settings on source languages that are left out in turn."""

import metaglot as mg

recipe = mg.Recipe(corpus="commands", held_out=("swh",))
found = mg.search(
    mg.load_corpus(recipe.corpus),
    recipe,
    {"augment": [["noise"], ["spelling"]], "train.steps": [60, 120]},
    folds=3,
    shots=[1, 2],
    draws=3,
    random=2,
)
print(found.verdict())
best = found.best.combination.recipe
