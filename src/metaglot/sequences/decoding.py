"""Texts from models: the likeliest token by token, by beam search, or at random.

All three write a batch at once, begin each row with the tokens that are given (a language's tag, or the
beginning of a text), and are done with a row at its end or at its limit. Attention's keys and values are
kept from step to step; without that (`cached=False`) the same tokens come out, at more cost.

Log-probabilities are always the model's own: tokens that are banned or not allowed are left out of the
choice, and what is left is not made to sum to one, except where a token is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from metaglot.errors import SettingsError
from metaglot.sequences.vocabulary import END
from metaglot.sequences.writing import Decoding, Hypothesis, Limits, Prefix, State, Writer, groups, writing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Decoding", "Hypothesis", "Limits", "Writer", "beam", "greedy", "sample"]

Choose = Callable[["Tensor", Sequence[int]], "Tensor"]


def greedy(
    model: Writer,
    prefix: Prefix,
    inputs: Mapping[str, Tensor] | None = None,
    decoding: Decoding | None = None,
) -> list[Hypothesis]:
    """Write the likeliest token each time.

    Args:
        model: a language or translation model.
        prefix: the tokens that each row begins with, at least one.
        inputs: the model's `source` and `source_mask`, a row for each of `prefix`.
        decoding: limits, constraint and the like.

    Raises:
        DataError: a row begins with nothing, or a source is missing or empty.
    """
    return _token_by_token(model, prefix, inputs, decoding, lambda log_p, rows: log_p.argmax(-1))


def sample(
    model: Writer,
    prefix: Prefix,
    inputs: Mapping[str, Tensor] | None = None,
    decoding: Decoding | None = None,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[Hypothesis]:
    """Draw tokens at random, from p^(1/temperature) over the likeliest ones.

    What is drawn for a row is a function of the seed and of the row's place in the batch alone.

    Args:
        model: a language or translation model.
        prefix: the tokens that each row begins with, at least one.
        inputs: the model's `source` and `source_mask`, a row for each of `prefix`.
        decoding: limits, constraint and the like.
        temperature: below 1 for likelier texts.
        top_k: how many of the likeliest tokens are drawn from; all, if 0 (Fan et al. 2018).
        top_p: the fewest of the likeliest tokens whose probabilities reach it are drawn from (Holtzman et
            al. 2020, "The curious case of neural text degeneration", eq. 3).
        seed: of the draws.

    Raises:
        DataError: a row begins with nothing, or a source is missing or empty.
        SettingsError: an option is out of its range.
    """
    if not temperature > 0 or top_k < 0 or not 0 < top_p <= 1 or seed < 0:
        raise SettingsError(
            f"expected temperature > 0, top_k ≥ 0, 0 < top_p ≤ 1 and seed ≥ 0, found {temperature}, "
            f"{top_k}, {top_p} and {seed}.",
            hint="For the likeliest tokens, without any randomness, decode greedily.",
        )
    draws = [np.random.default_rng((seed, row)) for row in range(len(prefix))]

    def choose(log_p: Tensor, rows: Sequence[int]) -> Tensor:
        ranked, tokens = (log_p.double() / temperature).sort(dim=-1, descending=True, stable=True)
        if top_k:
            ranked[:, top_k:] = -torch.inf
        p = ranked.softmax(-1)
        p = p * (p.cumsum(-1) - p < top_p)
        reached = p.cumsum(-1)
        # 1 - u is in (0, 1]: what it picks has a probability above zero.
        u = torch.tensor([[1 - draws[row].random()] for row in rows], dtype=reached.dtype)
        place = torch.searchsorted(reached, u.to(reached.device) * reached[:, -1:])
        return tokens.gather(-1, place).squeeze(-1)

    return _token_by_token(model, prefix, inputs, decoding, choose)


def beam(
    model: Writer,
    prefix: Prefix,
    inputs: Mapping[str, Tensor] | None = None,
    decoding: Decoding | None = None,
    *,
    width: int = 4,
    n_best: int = 1,
    length_penalty: float = 0.6,
) -> list[list[Hypothesis]]:
    """Write the best hypotheses that a beam search finds.

    Hypotheses Y of |Y| tokens, the end counted and the prefix not, are ranked by

        s(Y) = log p(Y) / lp(Y),    lp(Y) = (5 + |Y|)^α / (5 + 1)^α

    (Wu et al. 2016, "Google's neural machine translation system", eq. 14, without its coverage penalty).

    At each step the likeliest continuations are kept, by log p: `width` of them, less one for each finished
    hypothesis, of which the `n_best` are held. So a beam of width 1 is greedy decoding, one as wide as
    there are hypotheses is exhaustive, and where `width` is above `n_best` texts that end too early never
    take all places. A row is done when its beam is empty, or when there are `n_best` finished hypotheses
    and none that is open can come to a better score: log p only falls, so that log p / lp(L), with L the
    row's limit, is the most it can reach. Those that are open at the limit rank last.

    Args:
        model: a language or translation model.
        prefix: the tokens that each row begins with, at least one.
        inputs: the model's `source` and `source_mask`, a row for each of `prefix`.
        decoding: limits, constraint and the like.
        width: hypotheses that are kept.
        n_best: how many are returned for each row, the best first; fewer where fewer were found.
        length_penalty: α ≥ 0; 0 ranks by log p, and larger numbers favour longer texts.

    Raises:
        DataError: a row begins with nothing, or a source is missing or empty.
        SettingsError: an option is out of its range.
    """
    if not 1 <= n_best <= width or not 0 <= length_penalty < math.inf:
        raise SettingsError(
            f"expected 1 ≤ n_best ≤ width and a length penalty ≥ 0, found n_best={n_best}, width={width} "
            f"and length_penalty={length_penalty}."
        )
    found: dict[int, list[Hypothesis]] = {}
    with writing(model):
        for rows, state in groups(model, prefix, inputs or {}, decoding or Decoding()):
            found |= _beams(rows, state, width, n_best, length_penalty)
    return [found[row] for row in range(len(prefix))]


def _beams(
    rows: list[int], state: State, width: int, n_best: int, alpha: float
) -> dict[int, list[Hypothesis]]:
    """The best hypotheses of rows of one state."""
    searches = [_Search(row, state.limits[row], width, n_best, alpha) for row in rows]
    found = {search.row: search.found for search in searches}
    log_p = state.start()
    spread = torch.arange(len(rows), device=log_p.device).repeat_interleave(width)
    state.select(spread)
    log_p = log_p[spread]
    while searches:
        # Only the first hypothesis of a row is open at first, else all would be the same.
        open_ = [(s.row, ids, total) for s in searches for ids, total in s.beam]
        masked = state.masked(log_p, [row for row, _, _ in open_], [ids for _, ids, _ in open_])
        totals = torch.tensor([total for _, _, total in open_], dtype=log_p.dtype, device=log_p.device)
        size = log_p.shape[1]
        best = (masked + totals[:, None]).reshape(len(searches), width * size).topk(width)
        going: list[int] = []
        parents: list[int] = []
        tokens: list[int] = []
        for i, (values, places) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            if searches[i].advance(values, [divmod(place, size) for place in places]):
                going.append(i)
                parents += [i * width + place // size for place in places]
                tokens += [place % size for place in places]
        if going:
            chosen = torch.tensor(parents, dtype=torch.int64, device=log_p.device)
            kept = torch.tensor(going, dtype=torch.int64, device=log_p.device)
            state.select(chosen, kept if len(going) < len(searches) else None)
            log_p = state.step(torch.tensor(tokens, dtype=torch.int64, device=log_p.device))
        searches = [searches[i] for i in going]
    return found


class _Search:
    """The beam of one row: `width` open hypotheses, None for each place that has none."""

    def __init__(self, row: int, limit: int, width: int, n_best: int, alpha: float) -> None:
        self.row, self._limit, self._n_best, self._alpha = row, limit, n_best, alpha
        self._width = width
        self.beam: list[tuple[list[int] | None, float]] = [([], 0.0)] + [(None, -math.inf)] * (width - 1)
        self.found: list[Hypothesis] = []

    def advance(self, totals: Sequence[float], steps: Sequence[tuple[int, int]]) -> bool:
        """Take the best continuations, (place in the beam, token) and log p; whether to go on."""
        beam: list[tuple[list[int] | None, float]] = []
        places = self._width - len(self.found)
        for j, (total, (parent, token)) in enumerate(zip(totals, steps, strict=True)):
            before = self.beam[parent][0]
            hypothesis: list[int] | None = None
            if j < places and before is not None and total > -math.inf:
                hypothesis = before if token == END else [*before, token]
                length = len(before) + 1
                if token == END or length >= self._limit:
                    self._add(hypothesis, total, length, token == END)
                    hypothesis = None
            beam.append((hypothesis, -math.inf if hypothesis is None else total))
        self.beam = beam
        most = max(total for _, total in beam)
        enough = len(self.found) == self._n_best and self.found[-1].finished
        return most > -math.inf and not (enough and self.found[-1].score >= most / self._penalty(self._limit))

    def _penalty(self, length: int) -> float:
        return math.pow((5 + length) / 6, self._alpha)

    def _add(self, ids: Sequence[int], log_p: float, length: int, finished: bool) -> None:
        self.found.append(Hypothesis(tuple(ids), log_p, log_p / self._penalty(length), finished))
        self.found.sort(key=lambda h: (not h.finished, -h.score))
        del self.found[self._n_best :]


def _token_by_token(
    model: Writer,
    prefix: Prefix,
    inputs: Mapping[str, Tensor] | None,
    decoding: Decoding | None,
    choose: Choose,
) -> list[Hypothesis]:
    found: dict[int, Hypothesis] = {}
    with writing(model):
        for rows, state in groups(model, prefix, inputs or {}, decoding or Decoding()):
            found |= _chosen(rows, state, choose)
    return [found[row] for row in range(len(prefix))]


def _chosen(rows: list[int], state: State, choose: Choose) -> dict[int, Hypothesis]:
    """A hypothesis for each row, of one token chosen at each step."""
    found: dict[int, Hypothesis] = {}
    written: list[list[int]] = [[] for _ in rows]
    totals = [0.0] * len(rows)
    log_p = state.start()
    while rows:
        masked = state.masked(log_p, rows, written)
        tokens = choose(masked, rows)
        gained = masked.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).tolist()
        going: list[int] = []
        for i, token in enumerate(tokens.tolist()):
            totals[i] += gained[i]
            if token != END:
                written[i].append(token)
            if token == END or len(written[i]) >= state.limits[rows[i]]:
                found[rows[i]] = Hypothesis(tuple(written[i]), totals[i], totals[i], token == END)
            else:
                going.append(i)
        if going and len(going) < len(rows):
            kept = torch.tensor(going, dtype=torch.int64, device=tokens.device)
            state.select(kept, kept)
            tokens = tokens[kept]
        rows, written = [rows[i] for i in going], [written[i] for i in going]
        totals = [totals[i] for i in going]
        if rows:
            log_p = state.step(tokens)
    return found
