"""Rows of tokens that a model goes on with: what all ways of decoding are made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from metaglot.errors import DataError, SettingsError
from metaglot.sequences.constraints import Constraint
from metaglot.sequences.vocabulary import PADDING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from metaglot.sequences.transformer import Cache

Prefix = Sequence[Sequence[int]]


class Writer(Protocol):
    """A model that texts can be read from: `LanguageModel` and `TranslationModel` are."""

    training: bool

    def begin(self, **inputs: Tensor) -> Cache:
        """Return the cache before the first token, given the sources."""
        ...

    def extend(self, target: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Return logits `[r, V]` after further tokens `[r, T]`, and the cache with them."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Set whether dropout is on."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters, which are all on one device."""
        ...


@dataclass(frozen=True)
class Limits:
    """How long texts may become, the end counted: the tokens that they began with are not.

    A row's limit is `per_source` times the tokens of its source, plus `extra`; where there is no source it
    is `extra`. No row has less than what its constraint needs.

    Raises:
        SettingsError: a number is negative, or `extra` is not at least 1.
    """

    per_source: float = 2.0
    extra: int = 16

    def __post_init__(self) -> None:
        if not self.per_source >= 0 or self.extra < 1:
            raise SettingsError(f"expected per_source ≥ 0 and extra ≥ 1, found {self}.")


@dataclass(frozen=True)
class Decoding:
    """What all ways of decoding share.

    Attributes:
        limits: how long texts may become.
        banned: tokens that are never written; a vocabulary's `unsayable` ones.
        constraint: which tokens may come next, beyond that; it overrides `banned`, so that it can allow
            slots.
        cached: whether keys and values are kept.
    """

    limits: Limits = field(default_factory=Limits)
    banned: Sequence[int] = (PADDING,)
    constraint: Constraint | None = None
    cached: bool = True


@dataclass(frozen=True)
class Hypothesis:
    """A text that a model wrote.

    Attributes:
        ids: its tokens, without those that it began with and without the end.
        log_p: the model's log-probability of them and of the end, in nats.
        score: what hypotheses are ranked by: `log_p` but for a beam's length penalty.
        finished: whether it came to its end before its limit.
    """

    ids: tuple[int, ...]
    log_p: float
    score: float
    finished: bool


class State:
    """Rows that are being written, of prefixes of one length: what their next tokens' log-probabilities are.

    Attributes:
        limits: row of the batch → how many tokens it may become.
    """

    def __init__(
        self, model: Writer, prefix: Tensor, inputs: dict[str, Tensor], limits: dict[int, int], how: Decoding
    ) -> None:
        self.limits = limits
        self._model, self._how, self._tokens = model, how, prefix
        self._inputs = inputs
        self._cache: Cache | None = None
        self._ban: Tensor | None = None

    def start(self) -> Tensor:
        """Return log-probabilities `[r, V]` of the tokens after the prefixes."""
        self._cache = self._model.begin(**self._inputs)
        try:
            return self._log_p(self._tokens)
        except IndexError as error:
            raise DataError(
                f"expected rows that begin with tokens of the model's vocabulary, found "
                f"{int(self._tokens.min())} to {int(self._tokens.max())}."
            ) from error

    def step(self, tokens: Tensor) -> Tensor:
        """Return log-probabilities `[r, V]` of the tokens after further ones `[r]`."""
        self._tokens = torch.cat((self._tokens, tokens[:, None]), dim=1)
        return self._log_p(tokens[:, None] if self._how.cached else self._tokens)

    def select(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Go on with chosen rows, and with chosen sources or all."""
        self._tokens = self._tokens[rows]
        if self._cache is not None:
            chosen = sources if self._cache.memory else None
            self._cache = self._cache.select(rows, chosen)

    def masked(self, log_p: Tensor, rows: Sequence[int], written: Sequence[Sequence[int] | None]) -> Tensor:
        """Return log-probabilities `[r, V]` that are -inf where a token may not follow.

        Args:
            log_p: `[r, V]`.
            rows: each one's row of the batch.
            written: what each has so far; None of one that does not count.

        Raises:
            SettingsError: a constraint allows nothing, or is of another vocabulary.
        """
        size = log_p.shape[1]
        if self._ban is None:
            self._ban = torch.zeros(size, dtype=torch.bool, device=log_p.device)
            self._ban[list(self._how.banned)] = True
        if self._how.constraint is None:
            return log_p.masked_fill(self._ban, -torch.inf)
        masks = []
        for row, ids in zip(rows, written, strict=True):
            mask = None
            if ids is not None:
                mask = self._how.constraint.allowed(row, ids, self.limits[row] - len(ids))
            masks.append(~self._ban if mask is None else mask.to(log_p.device))
            if masks[-1].shape != (size,) or not masks[-1].any():
                raise SettingsError(
                    f"expected a constraint to allow some of {size} tokens, found "
                    f"{int(masks[-1].sum())} of {masks[-1].numel()} after {list(ids or ())}."
                )
        return log_p.masked_fill(~torch.stack(masks), -torch.inf)

    def _log_p(self, tokens: Tensor) -> Tensor:
        assert self._cache is not None
        cache = self._cache
        logits, seen = self._model.extend(tokens, cache)
        if self._how.cached:
            self._cache = seen
        return logits - logits.logsumexp(-1, keepdim=True)


def groups(
    model: Writer, prefix: Prefix, inputs: Mapping[str, Tensor], how: Decoding
) -> Iterator[tuple[list[int], State]]:
    """Yield the rows whose prefixes are of one length, and their state, until there are no more.

    Raises:
        DataError: a row begins with nothing, or the inputs are not the model's, or not one for each row.
    """
    _check(model, prefix, inputs)
    device = next(model.parameters()).device
    sizes = _source_sizes(prefix, inputs)
    by_length: dict[int, list[int]] = {}
    for row, ids in enumerate(prefix):
        by_length.setdefault(len(ids), []).append(row)
    for rows in by_length.values():
        limits = {row: int(how.limits.per_source * sizes[row]) + how.limits.extra for row in rows}
        if how.constraint is not None:
            limits = {row: max(limit, how.constraint.least(row) + 1) for row, limit in limits.items()}
        own = {name: block[rows].to(device) for name, block in inputs.items()}
        begun = torch.tensor([list(prefix[row]) for row in rows], dtype=torch.int64, device=device)
        yield rows, State(model, begun, own, limits, how)


@contextmanager
def writing(model: Writer) -> Iterator[None]:
    """Have a model write: without dropout and gradients, and afterwards as it was."""
    training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _check(model: Writer, prefix: Prefix, inputs: Mapping[str, Tensor]) -> None:
    empty = [row for row, ids in enumerate(prefix) if not len(ids)]
    if empty:
        raise DataError(
            f"expected every row to begin with a token, found none in row {empty[0]}.",
            hint="Begin it with the language's tag, or with begin.",
        )
    known = inspect.signature(model.begin).parameters
    missing = [name for name, a in known.items() if a.default is a.empty and name not in inputs]
    strange = [name for name in inputs if name not in known]
    if missing or strange:
        raise DataError(
            f"expected the inputs {', '.join(known) or '(none)'}, found {', '.join(inputs) or 'none'}."
        )
    for name, block in inputs.items():
        if len(block) != len(prefix):
            raise DataError(
                f"expected {name!r} of {len(prefix)} rows, as there are prefixes, found {len(block)}."
            )


def _source_sizes(prefix: Prefix, inputs: Mapping[str, Tensor]) -> list[int]:
    """How many tokens each row's source has."""
    source, mask = inputs.get("source"), inputs.get("source_mask")
    if source is None:
        return [0] * len(prefix)
    if mask is None:
        states = source.is_floating_point()
        mask = torch.ones_like(source[..., 0], dtype=torch.bool) if states else source != PADDING
    sizes: list[int] = mask.sum(-1).tolist()
    if 0 in sizes:
        raise DataError(
            f"expected sources of at least one token, found none in row {sizes.index(0)}.",
            hint="Leave empty texts out: their translation is empty.",
        )
    return sizes
