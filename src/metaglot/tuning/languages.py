"""Which languages are tuned on and which of the sources are kept apart, to judge on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from metaglot.config import TrainSettings
from metaglot.drawing import with_codes
from metaglot.errors import DataError
from metaglot.space import Task, TaskSpace
from metaglot.storage import text_hash
from metaglot.tuning.settings import TuneSettings

# Of a parallel corpus's contents, what share is for judging alone.
JUDGED = 0.25
# Sources below which none is kept apart.
FEWEST = 3


def divide(space: TaskSpace, settings: TuneSettings) -> tuple[list[Task], list[Task]]:
    """Return the source languages to tune on and those to judge on.

    In a parallel corpus they have no content in common: else what is judged on would have been tuned
    on in another language. There are none to judge on where `validation` is 0, or three sources are
    too many to ask for.

    Raises:
        LanguageError: `validation` names what is no source.
        SettingsError: no language is left to tune on.
        DataError: in a parallel corpus, too few contents are.
    """
    codes = [task.language for task in space.sources]
    named = settings.validation
    if not named or (isinstance(named, float) and len(codes) < FEWEST):
        return list(space.sources), []
    chosen = with_codes(codes, TrainSettings(seed=settings.seed, validation=named)).validation
    assert isinstance(chosen, tuple)
    sides: tuple[list[Task], list[Task]] = ([], [])
    for task in space.sources:
        apart = task.language in chosen
        kept = _only(task, judged=apart) if space.corpus.parallel else task
        if len(kept.labels) > 1:
            sides[apart].append(kept)
    if not sides[False]:
        raise DataError(
            "expected source languages with two labels of two examples or more, found none once the contents "
            "that are for judging were left out.",
            hint="Give the corpus more examples, or the setting validation 0.",
        )
    return sides


def _judged(content: str) -> bool:
    return int(text_hash("judged", content)[:8], 16) < JUDGED * 2**32


def _only(task: Task, *, judged: bool) -> Task:
    pool = tuple(e for e in task.pool if _judged(e.id) is judged)
    counts = Counter(e.label for e in pool)
    labels = tuple(label for label in task.labels if counts[label] > 1)
    return replace(task, labels=labels, pool=tuple(e for e in pool if e.label in labels))
