"""What was tried on the way to `auto`, each beside it: `python -m benchmarks.fewshot.tried`.

One fold, its sources fitted once. A variant changes one thing: the learner, what it sees of a support
set, its features, its prior, or what is made of its predictions. Every variant is trained anew on the
sources, and judged on the same draws of examples of the held-out languages.

`--tables` puts what `benchmarks/results/tried-CORPUS.json` have between the markers in `docs/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from benchmarks.fewshot import corpora
from benchmarks.fewshot.run import Settings, facts
from benchmarks.markers import ROOT, fill, markdown, renew
from metaglot.config import Recipe, TrainSettings
from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.learners import LEARNERS, auto
from metaglot.learners.auto import Auto
from metaglot.learners.base import Learner
from metaglot.model import Model, Sources, Table, target_table
from metaglot.outer_loop import meta_train
from metaglot.space import draw_support
from metaglot.storage import write_text
from metaglot.training import fit
from metaglot.types import Batch

RESULTS = ROOT / "benchmarks" / "results"
Change = Callable[[Table], Table]
REFERENCE = "auto"
RIDGE_SHARE = 0.3
NEIGHBOURS = 10
SPREAD = 0.5
STEPS_OF_SPREADING = 20


@dataclass(frozen=True)
class Variant:
    """One thing that differs from `auto`.

    Attributes:
        does: what it does, for the table.
        learner: makes the learner.
        sources: what of the fitted sources is changed: a function of them that gives a function of a table.
        target: the same for a held-out language's tables; `sources` where None.
        sees: which parts of a support set `auto`'s settings see, where they differ.
        after: what is made of the probabilities `[n, C]` of all test sentences at once.
    """

    does: str
    learner: Callable[[], Learner] = Auto
    sources: Callable[[Sources], Change] | None = None
    target: Callable[[Sources], Callable[[Table, Table], Table]] | None = None
    sees: Mapping[str, tuple[int, int, int, int]] | None = None
    after: Callable[[Batch, Tensor], Tensor] | None = None

    def seeing(self) -> AbstractContextManager[Any]:
        """Return a context in which `auto` sees what the variant says."""
        return nullcontext() if self.sees is None else mock.patch.dict(auto._SEES, self.sees)


def uncrossed(sources: Sources) -> Change:
    """The prior's scores of a head that has learned from the language itself."""
    every = torch.arange(len(sources.model.labels))
    return lambda table: replace(table, prior=sources.model.prior.scores(table.inputs, every))


def whitened(power: float) -> Callable[[Sources], Change]:
    """Dense features whitened by their scatter within labels and languages (Hatch et al. 2006, WCCN)."""

    def fitted(sources: Sources) -> Change:
        maps = {}
        for block in _dense(sources.model):
            rest = torch.cat(list(_within(sources, block)))
            values, vectors = torch.linalg.eigh(rest.T @ rest / len(rest))
            weights = (values / values.mean() + RIDGE_SHARE) ** (-power / 2)
            maps[block] = _same_size(vectors * weights, rest)
        return lambda table: _mapped(table, maps)

    return fitted


def discriminative(sources: Sources) -> Change:
    """Dense features, larger along the directions of the prior's head: a metric learned across languages."""
    maps = {}
    for block in _dense(sources.model):
        _, sizes, directions = torch.linalg.svd(sources.model.prior.weights[block], full_matrices=False)
        width = sources.model.encoder.blocks[block]
        spread = torch.eye(width) + directions.T * (sizes / sizes.mean()) @ directions
        maps[block] = _same_size(spread, torch.cat([t.inputs[block] for t in sources.tables]))
    return lambda table: _mapped(table, maps)


def centred(sources: Sources) -> Change:
    """The prior's scores less their mean over the language's own texts, whatever their labels."""
    return lambda table: replace(table, prior=table.prior - table.prior.mean(0))


def centred_on_pool(sources: Sources) -> Callable[[Table, Table], Table]:
    """Of a held-out language, less the mean over the texts that support sets are drawn from."""
    return lambda table, pool: replace(table, prior=table.prior - pool.prior.mean(0))


def spread(query: Batch, chances: Tensor) -> Tensor:
    """Label propagation over the test sentences (Zhou et al. 2004, local and global consistency).

    Every sentence is tied to its nearest ones by the cosine of all blocks side by side.
    """
    rows = F.normalize(torch.cat(list(query.inputs.values()), dim=1), dim=1)
    near = rows @ rows.T
    near.fill_diagonal_(0)
    values, places = near.clamp(min=0).topk(min(NEIGHBOURS, len(near) - 1), dim=1)
    graph = torch.zeros_like(near).scatter(1, places, values)
    graph = torch.maximum(graph, graph.T)
    root = graph.sum(1).clamp(min=1e-9).rsqrt()
    graph = root.unsqueeze(1) * graph * root
    found = chances
    for _ in range(STEPS_OF_SPREADING):
        found = SPREAD * graph @ found + (1 - SPREAD) * chances
    return found


VARIANTS: dict[str, Variant] = {
    REFERENCE: Variant("the default"),
    "mixture": Variant("experts in closed form, mixed", LEARNERS["mixture"]),
    "ridge": Variant("no prior; penalty, scales, sharpness learned", LEARNERS["ridge"]),
    "logistic": Variant("logistic regression to convergence from the prior", LEARNERS["logistic"]),
    "laplace": Variant("the same with a Bayesian last layer", LEARNERS["laplace"]),
    "protomaml": Variant("gradient steps from class means", LEARNERS["protomaml"]),
    "maml++": Variant("gradient steps, a rate for each layer and step", LEARNERS["maml++"]),
    "1 step": Variant("instead of 4", lambda: Auto(1)),
    "8 steps": Variant("instead of 4", lambda: Auto(8)),
    "no evidence": Variant(
        "settings see shots and labels alone", sees={"trust": (1, 1, 0, 0), "sharpness": (1, 1, 1, 0)}
    ),
    "fixed settings": Variant(
        "settings are constants",
        sees={"trust": (1, 0, 0, 0), "step": (1, 0, 0, 0), "sharpness": (1, 0, 0, 0)},
    ),
    "sharpness not apart": Variant(
        "likelihood decides trust and step alone", sees={"sharpness": (0, 0, 0, 0)}
    ),
    "prior not cross-fitted": Variant("trained on scores of a head that saw the language", sources=uncrossed),
    "whitened": Variant("dense features, by the scatter within labels and languages", sources=whitened(1.0)),
    "half whitened": Variant("the same, by its square root", sources=whitened(0.5)),
    "learned metric": Variant("dense features, along the prior's directions", sources=discriminative),
    "unlabelled text": Variant(
        "prior's mean over the language taken from unlabelled text", sources=centred, target=centred_on_pool
    ),
    "label propagation": Variant("over all test sentences at once", after=spread),
}


def judge(
    sources: Sources,
    tables: Mapping[str, tuple[Table, Table]],
    variant: Variant,
    shots: list[int],
    draws: int,
) -> dict[str, dict[str, list[float]]]:
    """Return k → language → the accuracy of every draw."""
    change = (lambda table: table) if variant.sources is None else variant.sources(sources)
    own = variant.target(sources) if variant.target else lambda table, pool: change(table)
    model = sources.model
    found: dict[str, dict[str, list[float]]] = {str(k): {} for k in shots}
    with variant.seeing():
        learner = variant.learner()
        changed = replace(sources, tables=tuple(change(table) for table in sources.tables))
        meta = meta_train(changed, learner, TrainSettings(), name=variant.does).meta
        for language, (pool, test) in tables.items():
            support_table, query_table = own(pool, pool), own(test, pool)
            labels = pool.task.labels
            query = query_table.batch(model, torch.arange(len(test.examples)), labels)
            for k in shots:
                for draw in range(draws):
                    rows = draw_support(pool.task.pool, labels, k, 0, language, draw)
                    support = support_table.batch(model, rows, labels)
                    with torch.no_grad():
                        adapted = learner.adapt(model.task_model, meta, support)
                        chances = learner.predict(model.task_model, meta, adapted, query).softmax(-1)
                    if variant.after is not None:
                        chances = variant.after(query, chances)
                    right = float((chances.argmax(-1) == query.targets).double().mean())
                    found[str(k)].setdefault(language, []).append(round(right, 5))
    return found


def table(results: Mapping[str, Any]) -> str:
    """Return the variants' accuracy and its difference to `auto`, in points, with paired intervals."""
    shots = [str(k) for k in results["shots"]]
    rows = []
    for name in results["variants"]:
        cells = []
        for k in shots:
            ours, theirs = (
                torch.tensor(list(results["variants"][method][k].values())) for method in (name, REFERENCE)
            )
            cells.append(f"{100 * float(ours.mean()):.1f}")
            low, high = bootstrap_interval(ours - theirs)
            gap = f"{100 * float((ours - theirs).mean()):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            cells.append("" if name == REFERENCE else gap)
        rows.append([f"`{name}`" if name in LEARNERS else name, VARIANTS[name].does, *cells])
    head = ["variant", "what it does", *(h for k in shots for h in (f"k = {k}", f"less `{REFERENCE}`"))]
    return markdown(head, rows)


def filled(page: Path) -> str:
    """Return a page's text with every `tried-CORPUS` table made anew from its result file."""
    made = {path.stem: partial(_of_file, path) for path in sorted(RESULTS.glob("tried-*.json"))}
    return fill(page.read_text(encoding="utf-8"), made)


def _of_file(path: Path) -> str:
    return table(json.loads(path.read_text(encoding="utf-8")))


def _dense(model: Model) -> list[str]:
    return [block for block in model.encoder.blocks if block not in model.encoder.lexical]


def _within(sources: Sources, block: str) -> Iterator[Tensor]:
    for source in sources.tables:
        names = [example.label for example in source.examples]
        for label in dict.fromkeys(names):
            rows = source.inputs[block][torch.tensor([name == label for name in names])]
            yield rows - rows.mean(0)


def _same_size(matrix: Tensor, rows: Tensor) -> Tensor:
    """The map, scaled so that rows keep their mean norm."""
    return matrix * (rows.norm(dim=1).mean() / (rows @ matrix).norm(dim=1).mean())


def _mapped(table: Table, maps: Mapping[str, Tensor]) -> Table:
    inputs = {b: block @ maps[b] if b in maps else block for b, block in table.inputs.items()}
    return replace(table, inputs=inputs)


def main(
    out: Annotated[
        Path | None,
        typer.Option(
            help="The result file; variants that it has are not run again.",
            show_default="benchmarks/results/tried-CORPUS.json",
        ),
    ] = None,
    corpus: Annotated[str, typer.Option(help=f"One of {', '.join(corpora.CORPORA)}.")] = "home-assistant",
    data: Annotated[Path | None, typer.Option(help="The folder of the corpora.")] = None,
    fold: Annotated[str | None, typer.Option(help="The fold.", show_default="the first")] = None,
    variants: Annotated[str, typer.Option(help="Which of them.")] = ",".join(VARIANTS),
    shots: Annotated[str, typer.Option(help="Examples per label.")] = "1,8",
    draws: Annotated[int, typer.Option(help="Support sets per language and number of shots.")] = 5,
    tables: Annotated[bool, typer.Option("--tables", help="Renew the tables in docs/, and no more.")] = False,
) -> None:
    """Judge variants of the default learner on one fold."""
    if tables:
        renew(filled)
        return
    out = out or RESULTS / f"tried-{corpus}.json"
    benchmark = corpora.load(corpus, data)
    chosen = next(f for f in benchmark.folds if fold is None or f.name == fold)
    settings = Settings()
    recipe = Recipe(corpus=corpus, encoder=settings.encoder, held_out=chosen.held_out, sources=chosen.sources)
    fitted = fit(benchmark.corpus, recipe)
    tables = {
        task.language: (
            target_table(fitted.sources.model, task, task.pool),
            target_table(fitted.sources.model, task, task.test),
        )
        for task in fitted.space.held_out
    }
    numbers = [int(k) for k in shots.split(",")]
    results = {"corpus": corpus, "fold": chosen.name, "shots": numbers, "draws": draws}
    if out.exists():
        before = json.loads(out.read_text("utf-8"))
        if {name: before[name] for name in results} != results:
            raise typer.BadParameter(f"{out} is of another corpus, fold, shots or draws: {results}")
        results = before
    results |= {"run": facts(settings), "variants": results.get("variants", {})}
    for name in (n for n in variants.split(",") if n not in results["variants"]):
        results["variants"][name] = judge(fitted.sources, tables, VARIANTS[name], numbers, draws)
        write_text(out, json.dumps(results, indent=1) + "\n")
        means = {k: sum(map(sum, v.values())) / draws / len(v) for k, v in results["variants"][name].items()}
        print(name, {k: f"{100 * mean:.1f}" for k, mean in means.items()}, flush=True)
    print(table(results))


if __name__ == "__main__":
    typer.run(main)
