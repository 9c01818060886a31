"""Judge a learner beside baselines on languages that it has not learned from."""

import metaglot as mg

recipe = mg.Recipe(corpus="commands", held_out=("swh",))
fitted = mg.fit(mg.load_corpus(recipe.corpus), recipe)
trained = mg.train_learners(fitted, recipe, ["auto"])
records = mg.run_grid(
    fitted.sources,
    fitted.space,
    {name: (learner, result.meta) for name, (learner, result) in trained.items()},
    baselines=["zero-shot", "target-only", "joint"],
    shots=[0, 1, 4],
    draws=10,
)
report = mg.Report(records, metric="accuracy")
for line in report.difference_lines():
    print(line)
