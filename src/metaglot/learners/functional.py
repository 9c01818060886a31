"""A module's structure, run with parameters that are given.

What runs is a copy that shares the module's parameters: the module itself is never changed, neither its
parameters and buffers nor its mode, hooks and configuration. The copy is in evaluation mode, so that
nothing in it is random or counts, with three exceptions that are options; see `metaglot.learners.modules`.
"""

from __future__ import annotations

import copy
import inspect
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations
from torch.utils.hooks import RemovableHandle

from metaglot.errors import DataError, SettingsError, suggestion
from metaglot.learners.embeddings import with_rows
from metaglot.learners.hugging_face import fit_module, input_names, masks_always
from metaglot.types import Params

if TYPE_CHECKING:
    from torch import Tensor

BATCH_NORMS = ("batch", "running")
PRECISIONS = {None: None, "float32": None, "bfloat16": torch.bfloat16}
_MASTERS = (torch.float32, torch.float64)
# Modules whose training mode is about what they count, not about noise.
_COUNTING = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.utils.parametrize.ParametrizationList,
)


class Functional:
    """A module as a function of its trainable parameters and of inputs by name.

    Args:
        module: the module, which is left as it is.
        dropout: whether dropout is on.
        batch_norm: `"batch"` or `"running"` statistics.
        precision: of the arithmetic; None is the parameters' own.

    Attributes:
        parameters: the module's trainable parameters, from input to output.
        norms: the names of those that are of normalisation layers.

    Raises:
        SettingsError: an option is none, or the module cannot be learned or copied.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        dropout: bool = False,
        batch_norm: str = "batch",
        precision: str | None = None,
    ) -> None:
        if batch_norm not in BATCH_NORMS:
            raise SettingsError(f"expected batch_norm to be 'batch' or 'running', found {batch_norm!r}.")
        if precision not in PRECISIONS:
            raise SettingsError(f"expected a precision of float32 or bfloat16, found {precision!r}.")
        self.parameters = _trainable(module)
        self.precision = PRECISIONS[precision]
        self._module = _shared_copy(module)
        _set_modes(self._module, dropout=dropout, batch_norm=batch_norm)
        self.norms = frozenset(_norms(self._module))
        self._hugging_face = fit_module(self._module)
        self._recurrent = any(isinstance(part, nn.RNNBase) for part in self._module.modules())
        # In training mode a module may write what it counts: into copies, which are thrown away.
        self._fresh_buffers = dropout
        with_rows(self._module)
        _with_exact_weight_norm(self._module)
        self._own = threading.local()
        self._arguments = inspect.signature(module.forward).parameters
        self._inside = input_names(module)
        self._by_place: dict[tuple[str, ...], bool] = {}

    def start(self) -> Params:
        """Return copies of the trainable parameters, from input to output."""
        return {name: p.detach().clone() for name, p in self.parameters.items()}

    def __call__(self, params: Params, inputs: Mapping[str, Tensor], n: int) -> Any:
        """Return the module's output for inputs of n examples.

        A single input of a name that is none of the forward's arguments is its first argument.

        Raises:
            DataError: the inputs are not what the module takes, or not of n examples.
        """
        args, named = self._call(inputs, n)
        device = next(iter(params.values())).device.type
        module = self._threads_own()
        if self._fresh_buffers:
            params = {n: b.clone() for n, b in module.named_buffers()} | params
        with self._differentiable(device):
            try:
                return functional_call(module, params, args, named)
            except (RuntimeError, ValueError) as error:
                _explain(error, inputs, n)
                raise

    def _threads_own(self) -> nn.Module:
        """This thread's copy of the structure: while it runs, the parameters that are given are in it."""
        if not hasattr(self._own, "module"):
            with _COPYING:
                self._own.module = _shared_copy(self._module)
        module: nn.Module = self._own.module
        return module

    def _call(self, inputs: Mapping[str, Tensor], n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The forward's arguments by place and by name."""
        for name, block in inputs.items():
            if block.ndim == 0 or len(block) != n:
                raise DataError(
                    f"expected one row of the input {name!r} for each of {n} targets, "
                    f"found the shape {tuple(block.shape)}."
                )
        names = tuple(inputs)
        if names not in self._by_place:
            self._by_place[names] = self._is_by_place(names)
        return (tuple(inputs.values()), {}) if self._by_place[names] else ((), dict(inputs))

    def _is_by_place(self, names: tuple[str, ...]) -> bool:
        """Whether inputs of these names are the first argument, a single one, and not given by name."""
        kind = inspect.Parameter
        listed = [
            a for a in self._arguments.values() if a.kind not in {kind.VAR_KEYWORD, kind.VAR_POSITIONAL}
        ]
        known = {a.name for a in listed if a.kind is not kind.POSITIONAL_ONLY} | self._inside
        by_place = len(names) == 1 and names[0] not in known
        if any(a.kind is kind.VAR_KEYWORD for a in self._arguments.values()) and not self._inside:
            known |= set(names)
        # A Hugging Face model takes any option, and would not say that an input is misspelt.
        strange = [name for name in names if name not in known and not by_place]
        needed = [a.name for a in listed[by_place:] if a.default is a.empty]
        missing = [name for name in needed if name not in names]
        if strange or missing:
            raise DataError(
                f"expected inputs named as the module's arguments ({', '.join(sorted(known))}), "
                f"found {', '.join(names) or 'none'}"
                + (f" without {', '.join(missing)}." if missing else "."),
                hint=suggestion(strange[0], known) if strange else "",
            )
        return by_place

    @contextmanager
    def _differentiable(self, device: str) -> Iterator[None]:
        """Arithmetic that can be differentiated twice, and in mixed precision where it is wanted."""
        with ExitStack() as stack:
            stack.enter_context(_UNFUSED)
            if self._hugging_face:
                stack.enter_context(masks_always())
            if self._recurrent and device == "cuda":
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            if self.precision is not None:
                stack.enter_context(torch.autocast(device, self.precision))
            yield


class _Unfused:
    """Attention without fused kernels, which have no second derivative.

    The switches are the process's, so that the first thread in sets them and the last one out sets
    them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                self._stack.callback(
                    torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled()
                )
                torch.backends.mha.set_fastpath_enabled(False)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stack.close()


_UNFUSED = _Unfused()
_COPYING = threading.Lock()


def _explain(error: Exception, inputs: Mapping[str, Tensor], n: int) -> None:
    """Raise a `DataError` where inputs do not fit the module."""
    said = str(error).strip().partition("\n")[0]
    if "more than 1 value per channel" in said:
        raise DataError(
            f"expected several values per channel for BatchNorm to normalise by, found {n} example.",
            hint="Give more examples, or normalise by running statistics: batch_norm='running'.",
        ) from error
    if re.search(r"same dtype|scalar type|cannot be multiplied|must match|channels|[Ee]xpected size", said):
        found = ", ".join(
            f"{name} {str(block.dtype).removeprefix('torch.')} {list(block.shape)}"
            for name, block in inputs.items()
        )
        raise DataError(f"expected inputs that the module can take, found {found}: {said}.") from error


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    found = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise SettingsError(
            f"expected a module with trainable parameters, found none in {type(module).__name__}.",
            hint="Set requires_grad_(True) on those that are to be learned.",
        )
    for name, value in found.items():
        if isinstance(value, nn.parameter.UninitializedParameter):
            raise SettingsError(
                f"expected parameters that have a shape, found {name!r} of a lazy module.",
                hint="Run the module once on an example first.",
            )
        if value.dtype not in _MASTERS:
            raise SettingsError(
                f"expected trainable parameters in float32 or float64, found {name!r} in "
                f"{str(value.dtype).removeprefix('torch.')}: inner steps would be lost in rounding.",
                hint="Convert the module by .float(), and say precision='bfloat16' for its arithmetic.",
            )
    return found


def _shared_copy(module: nn.Module) -> nn.Module:
    """The module's structure over the same parameters, everything else copied."""
    shared: list[Any] = list(module.parameters())
    for part in module.modules():
        # Handles of hooks are of no use in a copy, and PyTorch cannot copy them twice.
        held = [v for value in vars(part).values() for v in (value if isinstance(value, list) else [value])]
        shared += [value for value in held if isinstance(value, RemovableHandle)]
    try:
        return copy.deepcopy(module, {id(one): one for one in shared})
    except RuntimeError as error:
        raise SettingsError(
            f"expected a module that can be copied, found {type(module).__name__}: {error}",
            hint="It keeps a computed tensor, as old weight_norm does: use torch.nn.utils.parametrizations.",
        ) from error


def _set_modes(module: nn.Module, *, dropout: bool, batch_norm: str) -> None:
    module.train(dropout)
    for part in module.modules():
        if isinstance(part, _COUNTING):
            part.eval()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and batch_norm == "batch":
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None


class _WeightNorm(nn.Module):
    """w = g v / ‖v‖, by operations with right second derivatives: PyTorch's fused one has wrong ones."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Return the weight of a size g and a direction v."""
        return v * (g / torch.norm_except_dim(v, 2, self.dim))


def _with_exact_weight_norm(module: nn.Module) -> None:
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, parametrizations._WeightNorm):
                setattr(part, name, _WeightNorm(child.dim))


def _norms(module: nn.Module) -> Iterator[str]:
    for name, part in module.named_modules():
        if "norm" in type(part).__name__.lower():
            yield from (f"{name}.{n}" if name else n for n, _ in part.named_parameters(recurse=False))
