"""FewRel's files → rows: `{relation: [{"tokens": […], "h": [name, id, [[places]]], "t": […]}, …], …}`.

Han et al., "FewRel: a large-scale supervised few-shot relation classification dataset", EMNLP 2018.
"""

from __future__ import annotations

from typing import Any

_FIELDS = ("tokens", "h", "t")


def fewrel_rows(value: object) -> list[dict[str, Any]]:
    """Return a row for each of the relations' examples, or none where the value is not such a file's."""
    if not (isinstance(value, dict) and value and all(map(_is_list_of_examples, value.values()))):
        return []
    return [
        {"id": f"{relation}/{number}", "relation": relation, **example}
        for relation, examples in value.items()
        for number, example in enumerate(examples)
    ]


def _is_list_of_examples(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(example, dict) and example.keys() >= set(_FIELDS) for example in value
    )
