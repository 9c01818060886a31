"""Stage one: an encoder is tuned on the source languages, before it is frozen and learned with.

>>> folder = metaglot.tune(corpus, out="tuned", held_out=["swh"])
>>> recipe = metaglot.Recipe(corpus="home-assistant", encoder="tuned+ngrams", held_out=("swh",))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from metaglot.artifact import versions
from metaglot.encoders import JoinedEncoder, load_encoder
from metaglot.encoders.transformer import TransformerEncoder
from metaglot.errors import SettingsError
from metaglot.space import TaskSpace
from metaglot.tuning.batches import Batches
from metaglot.tuning.body import Body
from metaglot.tuning.folder import check_free, write_folder
from metaglot.tuning.languages import divide
from metaglot.tuning.probe import Probe
from metaglot.tuning.reading import Reading
from metaglot.tuning.run import Run
from metaglot.tuning.settings import TuneSettings, tune_settings
from metaglot.types import Corpus

__all__ = ["TuneSettings", "tune", "tune_settings"]

_UNJUDGED = (
    "no source language is kept apart to judge on, so that tuning does not stop early, and the mean with the "
    "pretrained weights is taken untried (keep = 0.5)."
)


def tune(
    corpus: Corpus,
    settings: TuneSettings | None = None,
    *,
    out: Path | str,
    held_out: Sequence[str] = (),
    sources: Sequence[str] | None = None,
    notices: Callable[[Sequence[str]], None] | None = None,
) -> Path:
    """Tune an encoder on a corpus's source languages; the same call goes on where it was stopped.

    Args:
        corpus: the examples, labelled texts or pairs of texts.
        settings: what adapts, the loss, the time …
        out: the folder to make; it is an ordinary Hugging Face folder, and `str(out)` an encoder's name.
        held_out: languages that nothing is learned from, as in `metaglot.Recipe`. Give the same ones.
        sources: languages to learn from; every other one where None.
        notices: is given what the user should know, a sentence each.

    Returns:
        The folder. Its `tuning.json` has settings, languages and curves.

    Raises:
        MetaglotError: corpus, encoder, settings or folder do not fit, the loss diverged, or a
            checkpoint is of another run; the message says how.
    """
    settings, out = settings or TuneSettings(), Path(out)
    check_free(out)
    settings, reading = settings.for_kind(corpus.kind), Reading(corpus.kind)
    encoder = _transformer(settings)
    space = TaskSpace.of(corpus, held_out, sources=sources)
    tuned_on, apart = divide(space, settings)
    if notices is not None:
        notices([*space.notices, *([] if apart or settings.keep is not None else [_UNJUDGED])])
    batches = Batches(tuned_on, settings)
    body = Body(encoder.folder, encoder.settings, settings)
    sample = batches.pool[:: max(1, len(batches.pool) // 512)]
    mean = sum(map(len, body.tokens(reading.texts(sample)))) / len(sample)
    languages = {
        "tuned_on": [task.language for task in tuned_on],
        "validation": [task.language for task in apart],
        "held_out": [task.language for task in space.held_out],
    }
    asked = settings.model_dump(mode="json")
    key = languages | {
        **{name: value for name, value in asked.items() if name != "checkpoint_minutes"},
        "encoder's content": encoder.fingerprint,
        "corpus's content": corpus.fingerprint,
    }
    run = Run(
        body,
        batches,
        reading,
        Probe(tuned_on, apart, mean, reading, settings.seed) if apart else None,
        settings,
        json.loads(json.dumps(key)),
        out.with_name(f".{out.name}.checkpoint.safetensors"),
    )
    run.train()
    share, tried = run.finish()
    facts = languages | {
        "base": {
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "prefix": encoder.settings.prefix,
            "pooling": encoder.settings.pooling,
        },
        "corpus": {
            "name": corpus.name,
            "kind": corpus.kind,
            "fingerprint": corpus.fingerprint,
            "licence": corpus.licence,
        },
        "settings": asked,
        "texts": len(batches.pool),
        "drawn": run.drawn,
        "steps": len(run.losses),
        "seconds": run.seconds,
        "training_seconds": run.training_seconds,
        "share": share,
        "losses": run.losses,
        "curve": [[step, j.zero_shot, j.few_shot] for step, j in run.judged],
        "ways": [[point, j.zero_shot, j.few_shot] for point, j in tried],
        "versions": versions(),
    }
    write_folder(out, body.model, encoder.folder, encoder.settings, facts)
    run.remove()
    return out


def _transformer(settings: TuneSettings) -> TransformerEncoder:
    encoder = load_encoder(settings.encoder, pooling=settings.pooling, prefix=settings.prefix)
    if isinstance(encoder, JoinedEncoder) or not isinstance(encoder, TransformerEncoder):
        raise SettingsError(
            f"expected one transformer to tune, found {settings.encoder!r}.",
            hint="Character n-grams have no weights: tune the transformer, then train on DIR+ngrams.",
        )
    return encoder
