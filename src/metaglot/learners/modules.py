"""Any `nn.Module` as a model that learners adapt: pure functions of its named parameters.

`ModuleModel` takes a module and a loss and assumes nothing of either. `EmbeddingModel` takes a module
that embeds its inputs and puts a linear head on top, for the learners that make such a head in closed
form. Neither changes the module: what they run is a copy of its structure that shares its parameters.

What happens to a module's randomness and state, since inner loops are differentiated:

- Dropout is off unless `dropout=True`; then every task and every inner step draws its own mask.
- BatchNorm normalises each batch by the batch's own statistics (`batch_norm="batch"`, as MAML does),
  or by the module's running ones (`"running"`); the running ones are never updated.
- Attention runs unfused: fused kernels have no second derivative.
- Tied parameters are one parameter; those that no output depends on get a gradient of zero; buffers
  are read and never written; parameters with `requires_grad=False` stay as they are, and learners
  do not see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.errors import SettingsError
from metaglot.learners.compiled import check_compile
from metaglot.learners.functional import Functional
from metaglot.learners.hugging_face import tensor_of
from metaglot.linear_head import LinearHead
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[[Any, "Tensor"], "Tensor"]

FEATURES = "features"
"""The name of the block that an `EmbeddingModel` makes."""


class ModuleModel:
    """Any module and any loss.

    Args:
        module: takes a batch's inputs by name, or a single input as its first argument.
        loss: (output, targets `[n, …]`) → the mean loss, a scalar.
        head: the name of the submodule that is the last layer; the last one with parameters if None.
        groups: names of the groups of tasks, for learners that use them.
        n_labels: how many labels the module's output has, where all tasks have the same in one order.
        dropout: whether dropout is on.
        batch_norm: `"batch"` or `"running"` statistics.
        precision: `"bfloat16"` for mixed precision in the forward pass (autocast).
        compile: whether inner steps are compiled, once for all of one shape (`metaglot.learners.compiled`).
        output: what of the module's output the loss takes; logits or the first of a tuple if not given.

    Attributes:
        norms: the names of the parameters of normalisation layers.
    """

    outputs = "any"
    fixed_start: frozenset[str] = frozenset()

    def __init__(
        self,
        module: nn.Module,
        loss: Loss = F.cross_entropy,
        *,
        head: str | None = None,
        groups: tuple[str, ...] = (),
        n_labels: int = 0,
        dropout: bool = False,
        batch_norm: str = "batch",
        precision: str | None = None,
        compile: bool = False,
        output: Callable[[Any], Any] = tensor_of,
    ) -> None:
        self.compile = check_compile(compile=compile, dropout=dropout)
        self._function = Functional(module, dropout=dropout, batch_norm=batch_norm, precision=precision)
        self._loss = loss
        self._output = output
        self.groups = groups
        self.n_labels = n_labels
        self.norms = self._function.norms
        self.precision = precision
        names = list(self._function.parameters)
        last = names[-1].rpartition(".")[0] if head is None else head
        self.head = frozenset(n for n in names if n == last or n.startswith(last + ".") or not last)
        if not self.head:
            raise SettingsError(
                f"expected the name of a submodule with trainable parameters as the head, found {head!r}."
            )

    def init(self, n_labels: int) -> Params:
        """Return copies of the module's trainable parameters."""
        return self._function.start()

    def rows(self, params: Params, classes: Tensor) -> Params:
        """Return the parameters: none belongs to one label."""
        return params

    def forward(self, params: Params, batch: Batch) -> Any:
        """Return the module's output for the batch's inputs."""
        return self._output(self._function(params, batch.inputs, len(batch)))

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the loss, in float32 if the outputs are of less precision."""
        if isinstance(outputs, torch.Tensor) and outputs.dtype is torch.bfloat16:
            outputs = outputs.float()
        return self._loss(outputs, targets)


class EmbeddingModel:
    """A module that embeds its inputs as vectors, under a linear head.

    Args:
        module: takes a batch's inputs and returns embeddings `[n, width]`.
        width: of the embeddings.
        n_labels: rows of the label list, where labels mean the same in several tasks; else 0.
        groups: names of the groups of tasks.
        dropout: whether dropout is on.
        batch_norm: `"batch"` or `"running"` statistics.
        precision: `"bfloat16"` for mixed precision in the forward pass (autocast).
        compile: whether inner steps are compiled, once for all of one shape (`metaglot.learners.compiled`).
        output: what of the module's output the embeddings are; the first of a tuple if not given.
    """

    outputs = "label-scores"
    lexical: frozenset[str] = frozenset()
    fixed_start: frozenset[str] = frozenset()

    def __init__(
        self,
        module: nn.Module,
        width: int,
        *,
        n_labels: int = 0,
        groups: tuple[str, ...] = (),
        dropout: bool = False,
        batch_norm: str = "batch",
        precision: str | None = None,
        compile: bool = False,
        output: Callable[[Any], Any] = tensor_of,
    ) -> None:
        self.compile = check_compile(compile=compile, dropout=dropout)
        self._function = Functional(module, dropout=dropout, batch_norm=batch_norm, precision=precision)
        self._output = output
        self._head = LinearHead({FEATURES: width})
        self.blocks = {FEATURES: width}
        self.n_labels = n_labels
        self.groups = groups
        self.norms = self._function.norms
        self.precision = precision
        self.body = frozenset(self._function.parameters)
        self.head = self._head.names
        taken = self.body & self.head
        if taken:
            raise SettingsError(f"expected other names of parameters than the head's, found {sorted(taken)}.")

    def init(self, n_labels: int) -> Params:
        """Return copies of the body's parameters, and a head of zeros for `n_labels` labels."""
        body = self._function.start()
        like = next(iter(body.values()))
        return body | {name: value.to(like) for name, value in self._head.init(n_labels).items()}

    def rows(self, params: Params, classes: Tensor) -> Params:
        """Return the body's parameters and the head's rows `classes` `[C]`."""
        return self._head.rows(params, classes)

    def embed(self, params: Params, batch: Batch) -> Batch:
        """Return the batch with embeddings `[n, width]` as its inputs."""
        body = {name: value for name, value in params.items() if name not in self.head}
        features = self._output(self._function(body, batch.inputs, len(batch)))
        features = features.to(next(iter(body.values())).dtype)
        if features.ndim != 2 or features.shape[1] != self.blocks[FEATURES]:
            raise SettingsError(
                f"expected embeddings [{len(batch)}, {self.blocks[FEATURES]}] from the module, "
                f"found {list(features.shape)}."
            )
        return Batch({FEATURES: features}, batch.targets, batch.classes, batch.prior, batch.group)

    def linear_head(
        self, weights: Mapping[str, Tensor], bias: Tensor | None = None, prior_scale: Tensor | float = 0.0
    ) -> Params:
        """Return a head of weights `[C, width]`, a bias `[C]` and a trust in the prior."""
        return self._head.make(weights, bias, prior_scale)

    def head_names(self, blocks: Iterable[str]) -> list[str]:
        """Return the names of the parameters that weigh these blocks."""
        return self._head.names_of(blocks)

    def apply_head(self, params: Params, features: Batch) -> Tensor:
        """Return logits `[n, C]` of the head for embeddings."""
        return self._head.logits(params, features)

    def forward(self, params: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`."""
        return self._head.logits(params, self.embed(params, batch))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, a scalar in nats."""
        return F.cross_entropy(outputs, targets)
