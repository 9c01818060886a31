"""Tasks and draws: nothing is on two sides, and every draw can be drawn again."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from metaglot.errors import DataError, LanguageError
from metaglot.space import TaskSpace, draw_episode, draw_support, find_language, generator
from metaglot.types import Corpus, Example


@st.composite
def pools(draw):
    """Examples of a few labels, of groups that may have several labels."""
    labels = draw(st.lists(st.text(max_size=3) | st.just("a\0"), min_size=2, max_size=4, unique=True))
    groups = st.sampled_from(["", "", "g1", "g2", "g3", "g4", "g5"])
    rows = draw(st.lists(st.tuples(st.sampled_from(labels), groups), min_size=8, max_size=40))
    return [Example(str(i), f"text {i}", label, "swh", group=group) for i, (label, group) in enumerate(rows)]


@given(
    pool=pools(),
    shots=st.integers(1, 5),
    queries=st.integers(1, 4),
    ways=st.none() | st.integers(2, 4),
    seed=st.integers() | st.text(max_size=3),
)
@settings(max_examples=300)
def test_support_and_query_share_neither_example_nor_group(pool, shots, queries, ways, seed):
    labels = sorted({e.label for e in pool})
    try:
        drawn = draw_episode(pool, labels, shots, queries, seed, ways=ways)
    except DataError:
        assume(False)
        return
    support, query = [pool[i] for i in drawn.support], [pool[i] for i in drawn.query]
    assert not {e.id for e in support} & {e.id for e in query}
    assert not {e.group for e in support if e.group} & {e.group for e in query if e.group}
    assert len(drawn.support) == len(set(drawn.support.tolist()))
    assert len(drawn.labels) == len(set(drawn.labels)) >= 2
    assert ways is None or len(drawn.labels) <= max(2, ways)
    for side, most in ((support, shots), (query, queries)):
        assert {e.label for e in side} == set(drawn.labels)
        assert max(sum(e.label == label for e in side) for label in drawn.labels) <= most
    again = draw_episode(pool, labels, shots, queries, seed, ways=ways)
    assert again.support.tolist() == drawn.support.tolist()
    assert again.query.tolist() == drawn.query.tolist()


def test_an_episode_has_as_many_examples_and_labels_as_asked(space):
    task = space.sources[0]
    drawn = draw_episode(task.pool, task.labels, 3, 2, "seed")
    assert (len(drawn.support), len(drawn.query), drawn.labels) == (12, 8, task.labels)
    fewer = draw_episode(task.pool, task.labels, 3, 2, "seed", ways=2)
    assert (len(fewer.support), len(fewer.query), len(fewer.labels)) == (6, 4, 2)
    # A third of the ten examples of each label is kept apart, however many shots are asked for.
    assert len(draw_episode(task.pool, task.labels, 99, 99, "seed").support) == 4 * 7


def test_too_few_groups_are_an_error():
    pool = [Example(str(i), "t", label, "swh", group=label) for i, label in enumerate("aabb")]
    with pytest.raises(DataError, match=r"expected two labels with examples of two or more groups"):
        draw_episode(pool, ["a", "b"], 1, 1, 0)


def test_groups_of_several_labels_are_on_one_side_or_their_labels_left_out():
    rows = [("a", "w"), ("a", "x"), ("a", "y"), ("a", "z"), ("b", "w"), ("b", "x")]
    pool = [Example(str(i), "t", label, "swh", group=group) for i, (label, group) in enumerate(rows)]
    refused = 0
    for seed in range(40):
        try:
            drawn = draw_episode(pool, ["a", "b"], 4, 4, seed)
        except DataError as error:
            assert "share no groups" in str(error)
            refused += 1
            continue
        assert not {pool[i].group for i in drawn.support} & {pool[i].group for i in drawn.query}
    # One of label a's four groups is for the query; label b can be judged where it is one of its two.
    assert 8 < refused < 32


@given(pool=pools(), small=st.integers(0, 4), more=st.integers(0, 4), seed=st.integers())
@settings(max_examples=100)
def test_support_sets_are_nested_in_the_shots(pool, small, more, seed):
    labels = sorted({e.label for e in pool})
    few = draw_support(pool, labels, small, seed).tolist()
    many = draw_support(pool, labels, small + more, seed).tolist()
    assert set(few) <= set(many)
    for label in labels:
        there = sum(e.label == label for e in pool)
        assert sum(pool[i].label == label for i in many) == min(there, small + more)


def test_draws_differ_and_labels_without_examples_are_passed_over(space):
    task = space.sources[0]
    one, other = (draw_support(task.pool, task.labels, 2, 0, draw).tolist() for draw in (0, 1))
    assert one != other
    assert draw_support(task.pool, [*task.labels, "none"], 2, 0, 0).tolist() == one
    assert draw_support([], ["a"], 2, 0).tolist() == []


def test_keys_of_other_parts_are_other_draws():
    seen = {
        float(generator(*key).random()) for key in [(1, 2), (12,), ("1", "2"), (1, "2"), ("1\x1f2",), (2, 1)]
    }
    assert len(seen) == 6


DRAW = """
from metaglot.space import TaskSpace, draw_episode, draw_support
from metaglot.types import Corpus, Example
rows = [(c, l, i) for c in ("swh", "eng", "yor") for l in ("a", "b", "c") for i in range(12)]
corpus = Corpus("c", tuple(
    Example(f"{l}{i}", "t", l, c, "train" if i < 8 else "test", f"g{i // 2}{l}") for c, l, i in rows
), parallel=True)
space = TaskSpace.of(corpus, ["swh"])
for task in (*space.sources, *space.held_out):
    print(task.language, [e.id for e in task.pool], draw_support(task.pool, task.labels, 2, 7).tolist())
for task in space.sources:
    print(draw_episode(task.pool, task.labels, 1, 2, 7, "x", ways=2))
"""


def test_draws_are_the_same_in_every_process():
    said = {
        subprocess.run(
            [sys.executable, "-c", DRAW],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(said) == 1
    assert "Draw(" in next(iter(said))


def test_sources_and_held_out_tasks_have_their_splits(space):
    assert [t.language for t in space.sources] == ["amh", "eng", "hau", "yor"]
    assert {e.split for t in space.sources for e in t.pool} == {"train", "dev"}
    (held,) = space.held_out
    assert {e.split for e in held.pool} == {"train"}
    assert {e.split for e in held.test} == {"test"}
    assert {e.language for e in held.pool + held.test} == {"swh"}
    assert space.labels == ("greet", "music", "timer", "weather")
    assert str(held) == "Swahili (swh)"


@given(
    sizes=st.tuples(st.integers(4, 12), st.integers(0, 3), st.integers(1, 4)),
    held_out=st.sets(st.sampled_from(["amh", "hau", "swh", "yor"]), min_size=1, max_size=3),
    shift=st.integers(0, 5),
)
@settings(max_examples=40)
def test_no_content_of_a_parallel_corpus_is_on_two_sides(make_corpus, sizes, held_out, shift):
    train, dev, test = sizes
    corpus = make_corpus(train=train, dev=dev, test=test, parallel=True)
    # One language splits its contents elsewhere than the others do.
    moved = [
        dataclasses.replace(e, id=f"{e.label}-{(int(e.id.split('-')[1]) + shift) % sum(sizes)}")
        if e.language == "hau"
        else e
        for e in corpus.examples
    ]
    corpus = Corpus("moved", tuple(moved), parallel=True)
    try:
        space = TaskSpace.of(corpus, sorted(held_out))
    except DataError:
        assume(False)
        return
    learned = {e.id for task in space.sources for e in task.pool}
    held = {e.id for task in space.held_out for e in task.pool + task.test}
    assert not learned & held
    for task in space.held_out:
        assert not {e.id for e in task.pool} & {e.id for e in task.test}
        assert task.pool
        assert {e.label for e in task.test} <= set(task.labels)


def test_a_corpus_that_is_not_parallel_loses_nothing(make_corpus):
    corpus = make_corpus()
    space = TaskSpace.of(corpus, ["swh"])
    tasks = (*space.sources, *space.held_out)
    kept = sum(len(task.pool) + len(task.test) for task in tasks)
    unused = len(corpus.select("swh", "dev")) + sum(
        len(corpus.select(t.language, "test")) for t in space.sources
    )
    assert kept + unused == len(corpus.examples)


def test_rare_labels_are_left_out_of_their_language(make_corpus):
    corpus = make_corpus()
    first = {}
    few = tuple(
        e
        for e in corpus.examples
        if not (e.language == "swh" and e.label == "greet" and e.split == "train")
        or first.setdefault(e.language, e) is e
    )
    space = TaskSpace.of(Corpus("few", few), ["swh"])
    assert space.held_out[0].labels == ("music", "timer", "weather")
    assert {e.label for e in space.held_out[0].pool + space.held_out[0].test} == set(space.held_out[0].labels)
    assert "greet" in space.labels
    assert "greet" in TaskSpace.of(Corpus("few", few), ["swh"], min_per_label=1).held_out[0].labels


def test_a_held_out_language_without_a_test_split_is_judged_on_dev(make_corpus):
    corpus = make_corpus(test=0)
    assert {e.split for e in TaskSpace.of(corpus, ["swh"]).held_out[0].test} == {"dev"}
    with pytest.raises(DataError, match="expected a test or dev split"):
        TaskSpace.of(make_corpus(test=0, dev=0), ["swh"])


def test_sources_may_be_chosen(make_corpus):
    space = TaskSpace.of(make_corpus(), ["Swahili"], sources=["yo", "en"])
    assert [t.language for t in space.sources] == ["eng", "yor"]
    with pytest.raises(DataError, match="found 'swh' in both"):
        TaskSpace.of(make_corpus(), ["swh"], sources=["sw", "eng"])
    with pytest.raises(DataError, match="at least one source language"):
        TaskSpace.of(make_corpus(), ["amh", "eng", "hau", "swh", "yor"])
    with pytest.raises(DataError, match="at least two labels"):
        TaskSpace.of(make_corpus(labels=("greet",)), ["swh"])


@pytest.mark.parametrize("name", ["swh", "sw", "Swahili", "swahili", "sw-KE", "Kiswahili"])
def test_a_language_is_found_by_any_of_its_names(make_corpus, name):
    assert find_language(make_corpus(), name) == "swh"


def test_codes_of_the_corpus_come_first_and_regions_before_none(make_corpus):
    corpus = make_corpus(languages=("por", "por_BR", "my-dialect", "deu_CH"))
    assert find_language(corpus, "pt-BR") == "por_BR"
    assert find_language(corpus, "pt-PT") == "por"
    assert find_language(corpus, "my-dialect") == "my-dialect"


@pytest.mark.parametrize(("name", "meant"), [("swahli", "swahili"), ("yorub", "yoruba"), ("hwa", "hau")])
def test_a_misspelt_language_gets_a_suggestion(make_corpus, name, meant):
    with pytest.raises(LanguageError) as error:
        find_language(make_corpus(), name)
    assert "Did you mean" in error.value.hint.partition("It has")[0]
    assert f"'{meant}'" in error.value.hint.partition("It has")[0]
    assert "swh" in error.value.hint


def test_a_language_that_the_corpus_lacks_is_named(make_corpus):
    with pytest.raises(LanguageError, match=r"expected a language of the corpus 'tiny', found 'German'"):
        find_language(make_corpus(), "German")


def test_rows_are_numbers_of_the_pool(space):
    rows = draw_support(space.sources[0].pool, space.labels, 1, 0)
    assert rows.dtype == np.int64
