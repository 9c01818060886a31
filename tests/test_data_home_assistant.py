"""The Home Assistant corpus: sentences drawn from templates, split by template."""

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("home_assistant_intents")
pytest.importorskip("hassil")

from metaglot.data import home_assistant
from metaglot.data.home_assistant_sentences import build, comparable
from metaglot.data.templates import Grammar, TemplateError, Unnatural, skeleton
from metaglot.errors import DataError, LanguageError, MissingExtraError
from metaglot.progress import silent
from metaglot.types import SPLITS

LISTS = {
    "colour": {"values": ["red", {"in": "(pale|deep) blue", "out": "blue"}]},
    "level": {"range": {"from": 0, "to": 100, "step": 10}},
    "room": {"wildcard": True},
}
RULES = {"the": "[the ]", "in": "(in|at)", "loop": "<loop>", "place": "<in> [the] {room}"}
FILLERS = {"room": ["kitchen", "living room", "ห้องครัว"]}
WORDS = ["nil", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "full"]


def grammar(**changes):
    return Grammar(**{"rules": RULES, "lists": LISTS, "fillers": FILLERS, **changes})


def draw(text, seed=0, **changes):
    drawn = grammar(**changes)
    return drawn.draw(drawn.parse(text), random.Random(seed))


def slots(text, spans):
    return {(span.label, text[span.start : span.end]) for span in spans}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, silent():
        patch.setenv("METAGLOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield home_assistant.load(languages=["Basque", "th", "cy"])


# ------------------------------------------------------------------------------------------ templates

ATOMS = st.sampled_from(
    ["turn", "on", "{colour}", "{level:how_much}", "{room}", "<the>", "<place>", " ", "{1..9:count}", "%"]
)
TEMPLATES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(" ".join),
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({';'.join(parts)})"),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: f"[{'|'.join(parts)}]"),
    ),
    max_leaves=8,
)
VALUES = {
    "colour": {"red", "pale blue", "deep blue"},
    "how_much": {str(n) for n in range(0, 101, 10)} | set(WORDS),
    "room": set(FILLERS["room"]),
    "count": {str(n) for n in range(1, 10)},
}


@settings(deadline=None)
@given(TEMPLATES, st.integers(0, 999), st.booleans(), st.booleans())
def test_every_span_holds_a_value_of_its_list(template, seed, spaced, spelt):
    spell = (lambda number: WORDS[number // 10]) if spelt else None
    try:
        text, spans = draw(f"x {template}", seed, spaced=spaced, spell=spell)
    except Unnatural:
        return
    assert text == " ".join(text.split())
    assert all(text[s.start : s.end] in VALUES[s.label] for s in spans)
    assert list(spans) == sorted(spans, key=lambda s: s.start)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    # what stands outside the spans is the template's own
    outside = text
    for span in reversed(spans):
        outside = outside[: span.start] + " " + outside[span.end :]
    assert not set(outside) - set("x turnoiheat%")


def test_permutations_come_in_every_order_and_keep_their_slots():
    seen = {draw("(paint {room};in {colour};now)", seed)[0] for seed in range(200)}
    orders = {tuple(sorted(("paint", "in ", "now"), key=text.find)) for text in seen}
    assert len(orders) == 6
    for seed in range(20):
        text, spans = draw("(paint {room};in {colour};now)", seed)
        assert {label for label, _ in slots(text, spans)} == {"room", "colour"}


def test_permutations_add_no_spaces_where_none_are_written():
    assert {draw("(把{colour};关)", seed, spaced=False)[0] for seed in range(50)} == {
        "把red关", "关把red", "把pale blue关", "关把pale blue", "把deep blue关", "关把deep blue",
    }  # fmt: skip


def test_optional_parts_are_kept_about_half_of_the_time():
    kept = sum("please" in draw("go [please|please now]", seed)[0] for seed in range(400))
    assert 160 < kept < 240


def test_a_slot_may_end_inside_a_word():
    text, spans = draw("{room}ssa", fillers={"room": ["talo"]})
    assert text == "talossa"
    assert slots(text, spans) == {("room", "talo")}


def test_a_spelt_number_has_no_percent_sign_beside_it():
    texts = set()
    for template in ("{level}%", "%{level}", "{level} percent"):
        for seed in range(60):
            try:
                texts.add(draw(template, seed, spell=lambda number: WORDS[number // 10])[0])
            except Unnatural:
                continue
    assert any(text.split()[0] in WORDS for text in texts)
    assert all(text.strip("%").isdigit() for text in texts if "%" in text)


@pytest.mark.parametrize("template", ["{nowhere}", "<nowhere>", "<loop>", "(open"])
def test_what_is_missing_or_circular_is_a_template_error(template):
    with pytest.raises(TemplateError):
        draw(template)


def test_a_list_without_values_needs_fillers():
    with pytest.raises(TemplateError, match="room"):
        draw("{room}", fillers={})


def test_skeletons_ignore_optional_words_order_and_list_names():
    parse = grammar().parse
    same = ["turn on [the] {room}", "[please] turn {colour} on", "(turn;{room};on)"]
    assert len({skeleton(parse(template)) for template in same}) == 1
    others = ["turn off {room}", "turn on", "turn (on|off) {room}", "<the> turn on {room}"]
    assert len({skeleton(parse(template)) for template in [same[0], *others]}) == 5


def test_branches_say_together_what_the_template_says():
    own = grammar()
    whole = own.parse("[please] go <place> (now|later)")
    parts = own.branches(whole)
    assert len(parts) == 2  # <in> is "in" or "at", the first choice that is not optional
    says = [{own.draw(node, random.Random(s))[0] for s in range(500)} for node in (whole, *parts)]
    assert says[0] == says[1] | says[2]
    assert not says[1] & says[2]
    assert own.branches(own.parse("[please] go")) == [own.parse("[please] go")]


# ------------------------------------------------------------------------------------------ the corpus


def test_languages_are_found_by_name_tag_and_code(corpus):
    assert corpus.languages == ("cym", "eus", "tha")
    found = home_assistant.locales()
    assert {"por", "por_BR", "deu", "deu_CH", "srp", "srp_Latn", "zho_Hans", "zho_Hant", "zho_Hant_HK"} <= {
        *found
    }
    assert len(set(found.values())) == len(found)
    with pytest.raises(LanguageError, match="Quechua"):
        home_assistant.load(languages=["quz"])


def test_sources_and_held_out_languages_are_apart_and_exist():
    sources, held_out = set(home_assistant.SOURCES), set(home_assistant.HELD_OUT)
    assert not sources & held_out
    assert sources | held_out <= set(home_assistant.locales())
    assert not {code[:3] for code in sources} & {code[:3] for code in held_out}


def test_no_group_and_no_text_stands_in_two_splits(corpus):
    groups, texts, labels = defaultdict(set), defaultdict(set), defaultdict(set)
    for example in corpus.examples:
        groups[example.group].add(example.split)
        texts[example.language, comparable(example.text)].add(example.split)
        labels[example.language, comparable(example.text)].add(example.label)
    assert all(len(splits) == 1 for splits in groups.values())
    assert all(len(splits) == 1 for splits in texts.values())
    assert all(len(found) == 1 for found in labels.values())
    assert len(texts) == len(corpus.examples)
    assert len({example.id for example in corpus.examples}) == len(corpus.examples)


def test_every_label_has_train_and_test_and_no_more_than_its_share(corpus):
    counts = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    for example in corpus.examples:
        counts[example.language, example.label][example.split] += 1
    assert all(found["train"] and found["test"] for found in counts.values())
    assert all(
        found["train"] <= 24 and found["dev"] <= 4 and found["test"] <= 12 for found in counts.values()
    )
    enough = [language for (language, _), n in counts.items() if n["train"] >= 16 and n["test"] >= 5]
    assert {language: enough.count(language) >= 15 for language in corpus.languages} == {
        "cym": True, "eus": True, "tha": True,
    }  # fmt: skip


def test_spans_are_slots_of_the_text(corpus):
    names = json.loads(
        Path(home_assistant.__file__).with_name("home_assistant_lists.json").read_text("utf-8")
    )
    locales = {"eus": "eu", "tha": "th", "cym": "cy"}
    areas = 0
    for example in corpus.examples:
        for span in example.spans:
            value = example.text[span.start : span.end]
            assert value and value == value.strip()
            if span.label == "area":
                areas += 1
                assert value in names[locales[example.language]]["area"]
    assert areas > 100


def test_the_cache_is_used_and_a_damaged_one_is_made_again(tmp_path, monkeypatch, corpus):
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path))
    with silent():
        first = home_assistant.load(languages="cym")
        (file,) = tmp_path.rglob("cym.jsonl")
        whole = file.read_text("utf-8")
        monkeypatch.setattr("metaglot.data.home_assistant_sentences.build", None)
        assert home_assistant.load(languages="cym") == first
        monkeypatch.undo()
        monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path))
        file.write_text(whole[: len(whole) // 2], "utf-8")
        assert home_assistant.load(languages="cym").fingerprint == first.fingerprint
    assert file.read_text("utf-8") == whole
    assert first.fingerprint == corpus.restrict(["cym"]).fingerprint


def test_two_processes_make_the_same_corpus(tmp_path):
    code = (
        "from metaglot.data import home_assistant as h; from metaglot.progress import silent\n"
        "with silent(): c = h.load(languages=['cym'], seed=3)\n"
        "print(c.fingerprint, [(e.group, e.spans) for e in c.examples])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "METAGLOT_CACHE": str(tmp_path / seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(outputs[0]) > 1000
    assert outputs[0] == outputs[1]


def test_another_seed_gives_another_corpus(tmp_path, monkeypatch, corpus):
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path))
    with silent():
        other = home_assistant.load(languages=["cym"], seed=1)
    assert other.fingerprint != corpus.restrict(["cym"]).fingerprint


# ------------------------------------------------------------------------------------------ faults


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr(home_assistant.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"metaglot\[home-assistant\]"):
        home_assistant.load()


def test_too_few_sentences_are_refused():
    with pytest.raises(DataError, match="found 3"):
        home_assistant.load(languages=["eus"], per_intent=3)


def written(tmp_path, sentences, **more):
    path = tmp_path / "en.json"
    block = {"sentences": sentences, **more}
    path.write_text(json.dumps({"intents": {"Go": {"data": [block]}}, "lists": {}}), "utf-8")
    return path


def test_a_few_unreadable_templates_are_skipped_and_counted(tmp_path):
    path = written(tmp_path, ["(broken", "<absent> go", *(f"go {n} {{area}}" for n in range(10))])
    part = build("eng", path, 20, 0)
    assert len(part.skipped) == 2
    assert part.templates == 12
    assert {example.split for example in part.examples} == set(SPLITS)


def test_a_block_may_have_rules_and_lists_of_its_own(tmp_path):
    path = written(
        tmp_path,
        [f"go {n} <there>" for n in range(10)],
        expansion_rules={"there": "to {planet}"},
        lists={"planet": {"values": ["Mars", "Venus"]}},
    )
    part = build("eng", path, 20, 0)
    assert not part.skipped
    assert all(s.label == "planet" for example in part.examples for s in example.spans)
    assert all(example.text.endswith(("Mars", "Venus")) for example in part.examples)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"intents": {"Go": {}}}', '{"intents": {"Go": {"data": [{"texts": []}]}}}', "{"]
)
def test_a_changed_format_is_a_data_error(tmp_path, content):
    path = tmp_path / "en.json"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"en\.json.*expected intents"):
        build("eng", path, 20, 0)


def test_many_unreadable_templates_are_a_data_error(tmp_path):
    with pytest.raises(DataError, match="2 of 4 templates"):
        build("eng", written(tmp_path, ["(broken", "[broken", "go", "run"]), 20, 0)
