"""What adapts: which of a model's parameters become a task's own, whatever the learner.

A choice is one of these words, a glob pattern of parameter names, or several joined by `+`:

    all       every parameter                 bias      biases
    head      the last layer                  norm      scales and shifts of normalisation layers
    body      all but the last layer          adapter   bottleneck adapters (`add_adapters`)
    last:N    the last N layers               lora      low-rank updates (`add_lora`)

Parameters that are not chosen are shared by all tasks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from metaglot.errors import SettingsError, suggestion
from metaglot.types import TaskModel

WORDS = ("all", "head", "body", "bias", "norm", "adapter", "lora", "last:N")


def select(model: TaskModel, choice: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return which of `names`, a model's parameters from input to output, a choice stands for.

    Raises:
        SettingsError: a part of the choice matches no parameter.
    """
    parts = [part.strip() for part in choice.split("+") if part.strip()]
    found: set[str] = set()
    for part in parts:
        chosen = _matches(model, part, names)
        if not chosen:
            raise SettingsError(
                f"expected parameters to adapt, found none that {part!r} stands for among "
                f"{len(names)}: {_some(names)}.",
                hint=_remedy(part, names),
            )
        found |= chosen
    if not found:
        raise SettingsError(
            f"expected what to adapt ({', '.join(WORDS)}, or a pattern of names), found {choice!r}."
        )
    return tuple(name for name in names if name in found)


def _matches(model: TaskModel, part: str, names: Sequence[str]) -> set[str]:
    words: dict[str, Callable[[str], bool]] = {
        "all": lambda name: True,
        "head": lambda name: name in model.head,
        "body": lambda name: name not in model.head,
        "bias": lambda name: name.rpartition(".")[2].endswith("bias"),
        "norm": lambda name: name in getattr(model, "norms", ()),
        "lora": lambda name: "lora_" in name,
        "adapter": lambda name: "adapter" in name.split("."),
    }
    if part.startswith("last:"):
        return set(_last(part.removeprefix("last:"), names))
    if part in words:
        return {name for name in names if words[part](name)}
    return {name for name in names if fnmatchcase(name, part)}


def layers(names: Sequence[str]) -> list[list[str]]:
    """Return the names by layer, in order: the members of a numbered list are layers, else modules."""
    found: dict[str, list[str]] = {}
    for name in names:
        numbered = re.match(r"(?:.*?\.)?\d+(?=\.)", name)
        found.setdefault(numbered.group() if numbered else name.rpartition(".")[0], []).append(name)
    return list(found.values())


def _last(count: str, names: Sequence[str]) -> list[str]:
    groups = layers(names)
    if not count.isdigit() or int(count) < 1:
        raise SettingsError(f"expected last:N with a whole number N ≥ 1, found 'last:{count}'.")
    numbered = [i for i, group in enumerate(groups) if re.search(r"(^|\.)\d+\.", group[0])]
    of = numbered or list(range(len(groups)))
    if int(count) > len(of):
        raise SettingsError(
            f"expected last:N with N up to the model's {len(of)} layers, found 'last:{count}'."
        )
    first = of[len(of) - int(count)]
    return [name for group in groups[first:] for name in group]


def _some(names: Sequence[str]) -> str:
    shown = [names[i] for i in sorted({0, 1, 2, 3, len(names) - 2, len(names) - 1}) if 0 <= i < len(names)]
    return ", ".join(shown) + (", …" if len(shown) < len(names) else "")


def _remedy(part: str, names: Sequence[str]) -> str:
    if part == "lora":
        return "Add low-rank updates to the module first: metaglot.learners.insertions.add_lora(module)."
    if part == "adapter":
        return "Add adapters to the module first: metaglot.learners.insertions.add_adapters(module)."
    if part == "body":
        return "The model is a head alone, on features that are frozen: adapt 'head' or 'all'."
    if part in {"bias", "norm"}:
        return "The model has no such parameters that are trainable."
    near = suggestion(part, [*WORDS, *names])
    return near or f"Choose of {', '.join(WORDS)}, or write a pattern such as '*.bias'."
