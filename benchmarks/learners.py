"""Every learner on the demo's corpus: accuracy by number of examples, and the time to train.

    python benchmarks/learners.py --json benchmarks/results/learners.json

Twenty source languages, six held out, the same fitted features, episodes, steps and draws for all. The
records of a learner are written when it is done, and a run that was stopped goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console

from metaglot.data import load_corpus
from metaglot.demo import SHOTS, the_recipe
from metaglot.evaluation.baselines import default_baselines
from metaglot.evaluation.grid import Record, run_grid
from metaglot.evaluation.report import Report
from metaglot.outer_loop import meta_train
from metaglot.storage import write_json
from metaglot.training import evaluation_facts, fit, fitting_learners, make_learner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--learners", nargs="*", help="names; every one that fits if left out")
    parser.add_argument("--json", type=Path, required=True, help="write the result here, and go on from it")
    options = parser.parse_args()
    recipe = the_recipe()
    corpus = load_corpus(recipe.corpus, options=recipe.corpus_options)
    fitted = fit(corpus, recipe)
    facts = evaluation_facts(fitted, recipe)
    done = {"records": [], "seconds": {}, "draws": options.draws}
    if options.json.exists():
        found = json.loads(options.json.read_text(encoding="utf-8"))
        same = found.get("draws") == options.draws and found["versions"] == facts["versions"]
        done = {key: found[key] for key in done} if same else done
    for name in [*(options.learners or fitting_learners()), "baselines"]:
        if name in done["seconds"]:
            continue
        start, learners, baselines = time.perf_counter(), {}, []
        if name == "baselines":
            baselines = list(default_baselines(fitted.sources.model))
        else:
            learner = make_learner(recipe.model_copy(update={"learner": name}))
            learners[name] = (learner, meta_train(fitted.sources, learner, recipe.train, name=name).meta)
        done["seconds"][name] = round(time.perf_counter() - start, 1)
        records = run_grid(
            fitted.sources,
            fitted.space,
            learners,
            baselines=baselines,
            shots=SHOTS,
            draws=options.draws,
            seed=recipe.train.seed,
        )
        done["records"] += [record.as_dict() for record in records]
        write_json(options.json, facts | done)
    Console(width=140).print(Report([Record(**row) for row in done["records"]]).table())


if __name__ == "__main__":
    main()
