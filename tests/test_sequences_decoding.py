"""Decoding: what is written is what the model holds for best, within what is allowed."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metaglot.errors import DataError, SettingsError
from metaglot.sequences.blocks import StackConfig
from metaglot.sequences.constraints import RequireTokens
from metaglot.sequences.decoding import Decoding, Limits, beam, greedy, sample
from metaglot.sequences.transformer import (
    LanguageModel,
    LanguageModelConfig,
    TranslationConfig,
    TranslationModel,
)
from metaglot.sequences.vocabulary import BEGIN, END, PADDING, Vocabulary

TINY = StackConfig(d=8, layers=2, heads=2, d_inner=12, dropout=0.3)
V = 12
SLOTS = (3, 4, 5)
TAG = 6
BANNED = (PADDING, BEGIN, TAG, *SLOTS)


def rough(model):
    """A model of random weights that are large enough for every token to count, and its end unlikely."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2.5)
        model.decoder.embedding /= 2
        model.decoder.embedding[END] /= 2
    return model


def translation_model(seed=0):
    return rough(
        TranslationModel(TranslationConfig(V, source_vocabulary=V, decoder=TINY, encoder=TINY, seed=seed))
    )


def language_model(size=V, seed=0):
    return rough(LanguageModel(LanguageModelConfig(size, TINY, seed)))


def batch(n=6, length=5):
    source = torch.randint(7, V, (n, length), generator=torch.Generator().manual_seed(1))
    for row in range(n):
        source[row, 2 + row % (length - 1) :] = PADDING
    return [[TAG]] * n, {"source": source}


WAYS = {
    "greedy": greedy,
    "sample": lambda *args: sample(*args, temperature=0.8, top_k=6, top_p=0.9, seed=3),
    "beam": lambda *args: [h for row in beam(*args, width=3, n_best=2) for h in row],
}
EVERY = pytest.mark.parametrize("way", WAYS)


@EVERY
@pytest.mark.parametrize("seed", range(4))
def test_without_a_cache_the_same_is_written(way, seed):
    model, (prefix, inputs) = translation_model(seed), batch()
    with_cache = WAYS[way](model, prefix, inputs, Decoding(banned=BANNED))
    without = WAYS[way](model, prefix, inputs, Decoding(banned=BANNED, cached=False))
    assert [h.ids for h in with_cache] == [h.ids for h in without]
    assert [h.log_p for h in with_cache] == pytest.approx([h.log_p for h in without], abs=1e-4)
    assert len({h.ids for h in with_cache}) > 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("constrained", [False, True])
def test_a_beam_of_one_is_greedy(seed, constrained):
    model, (prefix, inputs) = translation_model(seed), batch()
    constraint = RequireTokens([[3, 3], [], [4], [3, 5], [], [4]], SLOTS, V, BANNED) if constrained else None
    decoding = Decoding(banned=BANNED, constraint=constraint)
    wide = [row[0] for row in beam(model, prefix, inputs, decoding, width=1)]
    plain = greedy(model, prefix, inputs, decoding)
    assert [(h.ids, h.finished) for h in wide] == [(h.ids, h.finished) for h in plain]
    assert [h.log_p for h in wide] == pytest.approx([h.log_p for h in plain], abs=1e-4)


@EVERY
def test_a_row_is_written_alone_as_in_a_batch(way):
    model, (prefix, inputs) = translation_model(2), batch()
    prefix = [[TAG], [TAG, 8], [TAG], [TAG, 9], [TAG], [TAG]]
    # A row's draws are those of its place in the batch: the first row's are the same alone.
    rows = [0] if way == "sample" else range(6)
    together = WAYS[way](model, prefix, inputs, Decoding(banned=BANNED))
    each = len(together) // 6
    for row in rows:
        own = {"source": inputs["source"][row : row + 1]}
        alone = WAYS[way](model, [prefix[row]], own, Decoding(banned=BANNED, limits=Limits()))
        assert [h.ids for h in alone] == [h.ids for h in together[row * each : (row + 1) * each]]


def log_p_of(model, prefix, ids):
    """−log p by one forward over the whole text: not the way that decoding takes."""
    text = torch.tensor([[*prefix, *ids]])
    log_p = model.eval()(text[:, :-1]).log_softmax(-1)[0, len(prefix) - 1 :]
    return log_p.gather(-1, text[0, len(prefix) :, None]).sum().item()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_that_is_wide_enough_finds_the_best_there_is(alpha, seed):
    size, limit = 6, 4
    model = language_model(size, seed)
    words = range(3, size)
    found = {}
    for length in range(limit):
        for ids in itertools.product(words, repeat=length):
            found[ids] = log_p_of(model, [BEGIN], [*ids, END]) / ((5 + length + 1) / 6) ** alpha
    wanted = sorted(found, key=lambda ids: -found[ids])[:5]
    decoding = Decoding(Limits(0, limit), banned=(PADDING, BEGIN))
    best = beam(model, [[BEGIN]], {}, decoding, width=120, n_best=5, length_penalty=alpha)[0]
    assert [h.ids for h in best] == wanted
    assert [h.score for h in best] == pytest.approx([found[ids] for ids in wanted], abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_wider_beam_finds_no_worse_and_its_scores_are_the_models(alpha):
    gain = []
    prefixes = [[BEGIN, first] for first in range(7, V)]
    for seed in range(8):
        model = language_model(seed=seed)
        decoding = Decoding(Limits(0, 10), banned=BANNED)
        narrow, wide = (
            beam(model, prefixes, {}, decoding, width=w, n_best=min(w, 3), length_penalty=alpha)
            for w in (1, 6)
        )
        for prefix, one, several in zip(prefixes, narrow, wide, strict=True):
            if one[0].finished and several[0].finished:
                gain.append(several[0].score - one[0].score)
            ranks = [(not h.finished, -h.score) for h in several]
            assert ranks == sorted(ranks)
            for h in several:
                end = [END] if h.finished else []
                assert h.log_p == pytest.approx(log_p_of(model, prefix, [*h.ids, *end]), abs=1e-3)
                size = len(h.ids) + len(end)
                assert h.score == pytest.approx(h.log_p / ((5 + size) / 6) ** alpha, abs=1e-4)
    assert len(gain) > 2
    assert min(gain) > -1e-4
    assert max(gain) > 0.1


@given(
    seed=st.integers(0, 30),
    required=st.lists(st.lists(st.sampled_from(SLOTS), max_size=4), min_size=1, max_size=3),
    way=st.sampled_from(sorted(WAYS)),
    limits=st.builds(Limits, st.just(0.5), st.integers(1, 6)),
)
def test_required_tokens_occur_as_often_as_required_whatever_the_model(seed, required, way, limits):
    model = translation_model(seed)
    sources = [[*ids, 8, 9] for ids in required]
    width = max(map(len, sources))
    source = torch.tensor([[*ids, *[PADDING] * (width - len(ids))] for ids in sources])
    constraint = RequireTokens.of_sources(sources, SLOTS, V, BANNED)
    decoding = Decoding(limits, banned=BANNED, constraint=constraint)
    found = WAYS[way](model, [[TAG]] * len(required), {"source": source}, decoding)
    assert len(found) >= len(required)
    if way != "beam":
        rows = dict(enumerate([h] for h in found))
    else:
        rows = dict(enumerate(beam(model, [[TAG]] * len(required), {"source": source}, decoding, width=3)))
    for row, hypotheses in rows.items():
        for h in hypotheses:
            assert Counter(i for i in h.ids if i in SLOTS) == Counter(required[row])
            assert not set(h.ids) & {PADDING, BEGIN, TAG, END}


def test_placeholders_of_a_source_are_in_its_translation():
    vocabulary = Vocabulary.of_bytes(["eng", "swh"], n_tags=2, n_slots=4)
    texts = ["Hello %(name)s, you have %d new messages", "%d of %d", "no placeholder"]
    kept = [["%(name)s", "%d"], ["%d"], []]
    sources = vocabulary.encode(texts, "eng", kept=kept)
    width = max(map(len, sources))
    source = torch.tensor([[*ids, *[PADDING] * (width - len(ids))] for ids in sources])
    size = len(vocabulary)
    model = rough(
        TranslationModel(TranslationConfig(size, source_vocabulary=size, decoder=TINY, encoder=TINY))
    )
    constraint = RequireTokens.of_sources(sources, vocabulary.slots, size, vocabulary.unsayable)
    decoding = Decoding(Limits(0.2, 1), vocabulary.unsayable, constraint)
    for hypotheses in (
        [[h] for h in greedy(model, [[vocabulary.tag("swh")]] * 3, {"source": source}, decoding)],
        beam(model, [[vocabulary.tag("swh")]] * 3, {"source": source}, decoding),
    ):
        drafts = [vocabulary.decode(h[0].ids, own) for h, own in zip(hypotheses, kept, strict=True)]
        assert [(d.count("%(name)s"), d.count("%d")) for d in drafts] == [(1, 1), (0, 2), (0, 0)]


def test_without_the_constraint_slots_would_be_missing():
    model, (prefix, inputs) = translation_model(), batch()
    assert not any(i in SLOTS for h in greedy(model, prefix, inputs, Decoding(banned=BANNED)) for i in h.ids)


def test_limits_follow_the_source_and_what_is_not_finished_says_so():
    model, (prefix, inputs) = translation_model(), batch()
    with torch.no_grad():
        model.decoder.embedding[END] = 0
    decoding = Decoding(Limits(1.5, 2), banned=(*BANNED, END))
    sizes = (inputs["source"] != PADDING).sum(1).tolist()
    assert len(set(sizes)) > 2
    for found in (
        greedy(model, prefix, inputs, decoding),
        [r[0] for r in beam(model, prefix, inputs, decoding)],
    ):
        assert [len(h.ids) for h in found] == [int(1.5 * size) + 2 for size in sizes]
        assert not any(h.finished for h in found)


def test_a_text_goes_on_from_where_it_began():
    model = language_model()
    text = [BEGIN, 7, 8, 9]
    found = greedy(model, [text], {}, Decoding(Limits(0, 5), banned=BANNED))[0]
    step = model.eval()(torch.tensor([text]))[0, -1]
    step[list(BANNED)] = -torch.inf
    assert (found.ids[0] if found.ids else END) == int(step.argmax())


def test_samples_come_as_often_as_they_are_likely():
    model, n = language_model(), 4000
    decoding = Decoding(Limits(0, 1), banned=(PADDING,))
    p = model.eval()(torch.tensor([[BEGIN]])).detach()[0, -1]
    p[PADDING] = -torch.inf
    first = sample(model, [[BEGIN]] * n, {}, decoding, temperature=1.5, seed=1)
    count = Counter(h.ids[0] if h.ids else END for h in first)
    wanted = (p / 1.5).softmax(-1)
    found = torch.tensor([count[i] / n for i in range(V)])
    assert (found - wanted).abs().max() < 5 * (wanted.max() / n) ** 0.5
    ranked = wanted.argsort(descending=True)
    for options, most in (({"top_k": 3}, ranked[:3]), ({"top_p": 0.5}, ranked[: nucleus(wanted, 0.5)])):
        drawn = {
            h.ids[0] if h.ids else END
            for h in sample(model, [[BEGIN]] * n, {}, decoding, temperature=1.5, **options)
        }
        assert drawn == set(most.tolist())


def nucleus(p, least):
    reached = p.sort(descending=True).values.cumsum(0)
    return int((reached < least).sum()) + 1


def test_the_seed_alone_says_what_is_drawn():
    model, (prefix, inputs) = translation_model(), batch()
    torch.manual_seed(1)
    one = sample(model, prefix, inputs, seed=5)
    torch.manual_seed(2)
    assert sample(model, prefix, inputs, seed=5) == one
    assert sample(model, prefix, inputs, seed=6) != one
    least = sample(model, prefix, inputs, temperature=1e-4)
    assert [h.ids for h in least] == [h.ids for h in greedy(model, prefix, inputs)]


def test_the_model_is_as_it_was_and_dropout_is_off():
    model, (prefix, inputs) = translation_model(), batch()
    model.train()
    one = beam(model, prefix, inputs)
    assert model.training
    assert model.encoder.dropout.training
    assert beam(model, prefix, inputs) == one
    model.eval()
    assert beam(model, prefix, inputs) == one
    assert not model.training


def test_nothing_gives_nothing():
    assert greedy(language_model(), []) == []
    assert beam(translation_model(), [], {"source": torch.zeros(0, 3, dtype=torch.int64)}) == []


class Nothing:
    def least(self, row):
        return 0

    def allowed(self, row, ids, room):
        return torch.zeros(V, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, p, i: greedy(m, [[]] * 6, i), DataError, "row 0"),
        (lambda m, p, i: greedy(m, p), DataError, "found none"),
        (lambda m, p, i: greedy(m, p, i | {"sauce": i["source"]}), DataError, "sauce"),
        (lambda m, p, i: greedy(m, p[:4], i), DataError, "4 rows"),
        (lambda m, p, i: greedy(m, p, {"source": i["source"] * 0}), DataError, "none in row 0"),
        (lambda m, p, i: greedy(m, [[V]] * 6, i), DataError, "vocabulary"),
        (lambda m, p, i: greedy(m, p, i, Decoding(constraint=Nothing())), SettingsError, "allow some"),
        (lambda m, p, i: beam(m, p, i, width=0), SettingsError, "n_best"),
        (lambda m, p, i: beam(m, p, i, width=2, n_best=3), SettingsError, "n_best"),
        (lambda m, p, i: beam(m, p, i, length_penalty=-1.0), SettingsError, "penalty"),
        (lambda m, p, i: beam(m, p, i, length_penalty=math.nan), SettingsError, "penalty"),
        (lambda m, p, i: sample(m, p, i, temperature=0.0), SettingsError, "temperature > 0"),
        (lambda m, p, i: sample(m, p, i, top_p=0.0), SettingsError, "top_p"),
        (lambda m, p, i: sample(m, p, i, top_k=-1), SettingsError, "top_k"),
        (lambda m, p, i: Limits(-1.0), SettingsError, "per_source"),
        (lambda m, p, i: Limits(1.0, 0), SettingsError, "extra"),
        (lambda m, p, i: RequireTokens([[8]], SLOTS, V), SettingsError, "reserved"),
        (lambda m, p, i: RequireTokens([[]], [END], V), SettingsError, "reserved"),
        (lambda m, p, i: RequireTokens([[]], [V], V), SettingsError, "reserved"),
    ],
)
def test_what_is_wrong_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call(translation_model(), *batch())
