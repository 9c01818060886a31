"""A new language's examples → what a model that writes has of its own for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from metaglot.bitext.pairs import Bitext, SentencePair
from metaglot.errors import DataError, LanguageError, SettingsError
from metaglot.generation import language_modelling
from metaglot.generation.learning import Updates, adapt, adapt_through, nats, whole
from metaglot.generation.material import Material
from metaglot.generation.model import GenerationModel, WrittenLanguage
from metaglot.languages import language_name
from metaglot.progress import progress
from metaglot.space import generator
from metaglot.types import Params

STEPS = (10, 25, 50, 100, 200)
"""Numbers of updates that are tried where none is given."""
MULTIPLES = (0.3, 1.0, 3.0)
"""Multiples of the learner's rates that are."""
_LEAST = 10  # sequences, of which two are kept apart to choose by
_JUDGED = 200  # sequences kept apart at most
_DEFAULT = Updates(25, 8, 1.0)


@dataclass(frozen=True)
class Chosen:
    """How long and how fast a language was found to be best adapted.

    Attributes:
        updates: steps, batch and multiple.
        before: nats per token of the examples kept apart, of the learner's start; None where none were.
        after: the same, adapted.
    """

    updates: Updates
    before: float | None = None
    after: float | None = None


def material_of(model: GenerationModel, examples: Bitext | str, language: str) -> tuple[Material, list[str]]:
    """Return a language's examples as the model takes them, and what the user should know of them.

    Args:
        model: what is adapted.
        examples: sentence pairs of the language and the model's pivot, in either order; or running text.
        language: the code.

    Raises:
        DataError: the examples are not what the model's kind takes, or none can be used.
        LanguageError: the language is one that the model cannot learn anew.
    """
    group = model.groups.number(language)
    if model.source is None:
        if not isinstance(examples, str):
            raise DataError("expected running text to adapt a language model on, found sentence pairs.")
        assert model.vocabulary is not None
        return language_modelling.material(
            examples, model.vocabulary, block=model.recipe.length, group=group
        ), []
    if isinstance(examples, str):
        raise DataError("expected sentence pairs to adapt a translation model on, found running text.")
    pairs = _pairs(model, examples, language)
    found = model.codec.material(pairs, group=group, limit=model.recipe.length)
    left = len(pairs) - len(found)
    told = [f"{left:,} of {len(pairs):,} pairs were left out: empty, too long or with too many placeholders."]
    return found, told if left else []


def adapt_to(
    model: GenerationModel,
    material: Material,
    language: str,
    *,
    updates: Updates | None = None,
    seed: int = 0,
) -> WrittenLanguage:
    """Adapt a model to a language.

    Where `updates` is left out, their number and rates are chosen on a fifth of the examples that is kept
    apart, and the model is then adapted on all of them.

    Args:
        model: the model.
        material: the language's examples.
        language: the code.
        updates: how long and how fast to adapt.
        seed: of minibatches and the part kept apart.

    Raises:
        TrainingError: the updates have diverged.
    """
    if updates is not None and updates.steps == 0:
        raise SettingsError("expected at least one update to adapt by, found none.")
    chosen = Chosen(updates) if updates is not None else choose(model, material, language, seed)
    own = adapt(model.task_model, model.learner, model.meta, material, chosen.updates, seed, language)  # type: ignore[arg-type]
    estimate = None
    if chosen.before is not None and chosen.after is not None:
        estimate = {"before": round(chosen.before, 4), "after": round(chosen.after, 4)}
    return WrittenLanguage(
        language,
        {n: _rounded(v) for n, v in own.items()},
        len(material),
        chosen.updates.steps,
        chosen.updates.multiple,
        estimate,
    )


def choose(model: GenerationModel, material: Material, language: str, seed: int) -> Chosen:
    """Return the updates after which examples kept apart are likeliest.

    With fewer than ten examples none is kept apart, and a few cautious updates are made.
    """
    if len(material) < _LEAST:
        return Chosen(_DEFAULT)
    order = generator(seed, "kept apart", language).permutation(len(material)).tolist()
    share = min(_JUDGED, len(material) // 5)
    apart, known = material.rows(order[:share]), material.rows(order[share:])

    task_model, learner, meta = model.task_model, model.learner, model.meta

    def loss(own: Params) -> float:
        params = whole(task_model, learner, meta, own, known.batch([0]))
        return nats(task_model, params, apart) / apart.n_tokens

    start = adapt(task_model, learner, meta, known, Updates(0), seed, language)  # type: ignore[arg-type]
    best = Chosen(_DEFAULT, before=loss(start))
    with progress("choosing updates", len(MULTIPLES)) as advance:
        for multiple in MULTIPLES:
            most = Updates(max(STEPS), _DEFAULT.batch, multiple)
            ways = adapt_through(task_model, learner, meta, known, most, STEPS, seed, language)  # type: ignore[arg-type]
            for steps, own in ways.items():
                found = loss(own)
                if best.after is None or found < best.after:
                    best = Chosen(Updates(steps, most.batch, multiple), best.before, found)
            advance(1, f"{best.updates.steps} updates: {best.after:.3f} nats a token")
    return best


def check_language(model: GenerationModel, language: str) -> None:
    """Raise a `LanguageError` for the language that is on the other side of all of a model's translations."""
    if language == model.facts["pivot"]:
        raise LanguageError(
            f"expected a language to translate {'from' if model.facts['into'] else 'to'}, found "
            f"{language_name(language)}, which is on the other side of every translation of this model."
        )


def _pairs(model: GenerationModel, examples: Bitext, language: str) -> Sequence[SentencePair]:
    check_language(model, language)
    pivot, into = model.facts["pivot"], model.facts["into"]
    missing = [code for code in (pivot, language) if code not in examples.languages]
    if missing:
        raise DataError(
            f"expected pairs of {language_name(language)} ({language}) and {language_name(pivot)} ({pivot}), "
            f"found {', '.join(examples.languages)}."
        )
    turned = examples.into(pivot) if into else examples.out_of(pivot)
    return turned.select(language)


def _rounded(value: torch.Tensor) -> torch.Tensor:
    """The nearest number that float16 holds: what is used is what is saved."""
    return value.detach().half().float()
