"""Learners beside baselines on held-out languages: the same model, data, batches and budget.

All but `scratch` begin with joint training. Each learner then has the recipe's episodes, and
`joint-fine-tuned` as many sequences of further joint training. Adapting is the same for all: updates
and their rate are chosen on a fifth of the examples (`metaglot.generation.adapting`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from metaglot.bitext import Bitext, Texts
from metaglot.bitext.pairs import SentencePair
from metaglot.checkpoint import Checkpoint
from metaglot.errors import SettingsError, suggestion
from metaglot.evaluation.grid import Record
from metaglot.generation.adapting import adapt_to
from metaglot.generation.corpora import Taught
from metaglot.generation.drawing import Sizes
from metaglot.generation.language_modelling import bits, material
from metaglot.generation.learning import make_learner, nats
from metaglot.generation.material import Material
from metaglot.generation.model import GenerationModel, build, task_model
from metaglot.generation.recipe import GenerationRecipe
from metaglot.generation.scores import score
from metaglot.generation.training import assemble, meta_train, sides, sizes_of, train_jointly
from metaglot.generation.using import translate
from metaglot.learners.base import started
from metaglot.learners.modules import ModuleModel
from metaglot.progress import progress, silent
from metaglot.space import generator
from metaglot.storage import text_hash
from metaglot.types import Params

SCRATCH, JOINT, COPY = "scratch", "joint-fine-tuned", "copy"
BASELINES = (SCRATCH, JOINT, COPY)
"""Random start; joint training and fine-tuning; the source as it is, for translation."""
SHOTS = {"translation": (0, 100, 500), "language-modelling": (0, 1, 4, 16)}
"""Pairs, or kilobytes, that languages are adapted on."""
_PAIRS, _KILOBYTES = 150, 16


def check_comparison(learners: Sequence[str], baselines: Sequence[str], shots: Sequence[int]) -> None:
    """Raise a `SettingsError` for names and numbers that cannot be compared."""
    for name in learners:
        make_learner(name, {})
    for name in baselines:
        if name not in BASELINES:
            raise SettingsError(
                f"expected a baseline ({', '.join(BASELINES)}), found {name!r}.",
                hint=suggestion(name, BASELINES),
            )
    if not shots or min(shots) < 0:
        raise SettingsError(f"expected numbers of examples of at least 0, found {list(shots)}.")


def compare(
    recipe: GenerationRecipe,
    taught: Taught,
    learners: Sequence[str],
    *,
    baselines: Sequence[str] = BASELINES,
    shots: Sequence[int] = (0, 100),
    draws: int = 1,
    work: Path | None = None,
) -> list[Record]:
    """Judge learners and baselines on every held-out language.

    Args:
        recipe: corpus, languages, model, joint training, episodes; its learner is left out of account.
        taught: `teach(recipe)`.
        learners: names.
        baselines: names.
        shots: pairs, or kilobytes of text, that languages are adapted on; 0 does not adapt.
        draws: support sets of each number.
        work: a folder that training saves its progress to, and goes on from.

    Returns:
        Records with the metrics `chrf++` and `bleu` (as shares), or `saved` (1 − bits per byte / 8) and
        `bits_per_byte`.

    Raises:
        SettingsError: no language is held out, or a language has too few examples.
    """
    check_comparison(learners, baselines, shots)
    if not taught.held_out:
        raise SettingsError("expected --held-out LANGUAGES to evaluate on, found none.")
    models = _models(recipe, taught, [*learners, *(b for b in baselines if b != COPY)], work)
    cells = [(k, draw) for k in shots for draw in range(draws if k else 1)]
    records: list[Record] = []
    total = len(models) * len(taught.held_out) * len(cells)
    with progress("judging", total) as advance:
        for name, model in models.items():
            for language in taught.held_out:
                judge = _judge(model, taught, language)
                for k, draw in cells:
                    support = _support(taught, model, language, k, draw)
                    if support is not None:
                        with silent():
                            model.adaptations[language] = adapt_to(model, support, language, seed=draw)
                    count = 0 if support is None else len(support)
                    records.append(Record(name, name in learners, language, k, draw, count, judge()))
                    model.adaptations.pop(language, None)
                    advance(1, f"{name} {language} k={k}")
    if COPY in baselines and taught.pivot:
        for language in taught.held_out:
            tests = _tests(taught, language)
            found = _scores([p.source for p in tests], tests)
            records += [Record(COPY, False, language, k, draw, 0, found) for k, draw in cells]
    return records


def _models(
    recipe: GenerationRecipe, taught: Taught, names: Sequence[str], work: Path | None
) -> dict[str, GenerationModel]:
    """Every method's model, learned now or before."""
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)

    def place(name: str) -> Path | None:
        return None if work is None else work / f"{name}.checkpoint.safetensors"

    key = text_hash(recipe.model_dump_json(exclude={"learner", "learner_options"}), taught.data.fingerprint)
    own_learner = make_learner(recipe.learner, recipe.learner_options)
    joints: dict[tuple[str, ...], tuple[ModuleModel, tuple[float, ...]]] = {}
    found = {}
    for name in names:
        plain = name in (SCRATCH, JOINT)
        options = dict(recipe.learner_options) if name == recipe.learner else {}
        mine = recipe.model_copy(
            update={"learner": "multitask" if plain else name, "learner_options": options}
        )
        learner = make_learner(mine.learner, mine.learner_options)
        if name == SCRATCH:
            module = build(recipe, taught.vocabulary, taught.source)
            meta: Params = started(task_model(module, taught.groups).init(0))
            found[name] = assemble(mine, taught, learner, meta, {})
            continue
        if name == JOINT:
            mine = _as_many(mine, sizes_of(recipe, own_learner))
        codes, own = sides(mine, taught.sources)
        if tuple(codes) not in joints:
            place_of = place(f"joint-{len(codes)}")
            joints[tuple(codes)] = train_jointly(mine, taught, codes, checkpoint=place_of, key=key)
        joint, losses = joints[tuple(codes)]
        known = {code: taught.sources[code] for code in own}
        meta = meta_train(joint, learner, known, mine, checkpoint=place(name), key=key).meta
        found[name] = assemble(mine, taught, learner, meta, {"joint": losses})
    return found


def _as_many(recipe: GenerationRecipe, sizes: Sizes) -> GenerationRecipe:
    """A recipe of joint training on as many sequences as the episodes of the others have."""
    episode = sizes.support + sizes.query
    steps = math.ceil(recipe.train.steps * recipe.train.episodes * episode / recipe.joint.batch)
    update = {"steps": steps, "episodes": 1, "warmup": 0}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=update)})


def _support(taught: Taught, model: GenerationModel, language: str, k: int, draw: int) -> Material | None:
    """What a language is adapted on: of one draw, fewer pairs are among more."""
    group = taught.groups.number(language)
    if not k:
        return None
    if isinstance(taught.data, Texts):
        assert taught.vocabulary is not None
        return material(
            taught.data.take(language, k, draw), taught.vocabulary, block=model.recipe.length, group=group
        )
    pairs = taught.data.select(language, "train")
    if len(pairs) < k:
        raise SettingsError(
            f"expected at least {k} pairs of {language} to adapt on, found {len(pairs)}.",
            hint="Lower --shots, or leave the language out.",
        )
    order = generator(draw, "support", language).permutation(len(pairs))[:k].tolist()
    return model.codec.material([pairs[i] for i in order], group=group, limit=model.recipe.length)


def _judge(model: GenerationModel, taught: Taught, language: str) -> Callable[[], dict[str, float]]:
    """Return what measures a language as it is adapted now."""
    if isinstance(taught.data, Texts):
        assert taught.vocabulary is not None
        room = min(_KILOBYTES, taught.data.size(language, "test") / 1024)
        text = taught.data.take(language, room, split="test")
        test = material(text, taught.vocabulary, block=model.recipe.length)

        def measured() -> dict[str, float]:
            params = dict(model.writer(language).named_parameters())  # type: ignore[attr-defined]
            found = bits(nats(model.task_model, params, test), test)
            return {"saved": 1 - found / 8, "bits_per_byte": found}

        return measured
    tests = _tests(taught, language)

    def scored() -> dict[str, float]:
        with silent():
            return _scores(translate(model, [p.source for p in tests], language, width=1), tests)

    return scored


def _tests(taught: Taught, language: str) -> Sequence[SentencePair]:
    assert isinstance(taught.data, Bitext)
    found = taught.data.select(language, "test") or taught.data.select(language, "dev")
    if not found:
        raise SettingsError(f"expected pairs of {language} to be judged on (test), found none.")
    return found[:_PAIRS]


def _scores(drafts: list[str], tests: Sequence[SentencePair]) -> dict[str, float]:
    references = [p.target for p in tests]
    found = score(drafts, references, language=tests[0].target_language)
    return {each.name: each.value / 100 for each in found}


def remove_progress(work: Path) -> None:
    """Remove what a comparison has saved of its training."""
    for path in work.glob("*.checkpoint.safetensors"):
        Checkpoint(path).remove()
