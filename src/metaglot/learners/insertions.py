"""Small trainable parts put into a module: low-rank updates and bottleneck adapters.

    LoRA       h = W x + (α / r) B A x                B = 0 at first, A `[r, d_in]`, B `[d_out, r]`
    adapter    h ← h + U f(D h)                       U = 0 at first, D `[width, d]`, U `[d, width]`

Hu et al. (2022), "LoRA: low-rank adaptation of large language models", section 4.1; Houlsby et al. (2019),
"Parameter-efficient transfer learning for NLP", section 2.1. Both compute at first what the module does.
Learners adapt them by the words `lora` and `adapter` (`metaglot.learners.selection`).

Both functions leave the module as it is and return a copy with parameters of its own.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.errors import MissingExtraError, SettingsError, suggestion

if TYPE_CHECKING:
    from torch import Tensor

# What is usual for LoRA: the projections that make queries and values.
_PROJECTIONS = (
    *("*query", "*value", "*query_proj", "*value_proj", "*q_proj", "*v_proj", "*q_lin", "*v_lin"),
    *("*.q", "*.v", "*c_attn", "*query_key_value", "*Wqkv", "*in_proj"),
)
# What Houlsby et al. set adapters behind: the last layer of each block, before its residual connection.
_SUBLAYERS = (
    *("*output.dense", "*attention.dense", "*ffn_output", "*out_lin", "*lin2", "*out_proj", "*fc2"),
    *("*o_proj", "*down_proj", "*.o", "*.wo", "*attn.Wo", "*mlp.Wo", "*c_proj", "*dense_4h_to_h"),
)
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
    "silu": F.silu,
}


class Adapter(nn.Module):
    """A bottleneck with a residual connection, the identity at first.

    Args:
        d: the width of what it changes.
        width: of the bottleneck.
        activation: `"gelu"`, `"relu"`, `"tanh"` or `"silu"`.
    """

    def __init__(self, d: int, width: int, activation: str = "gelu") -> None:
        super().__init__()
        self.down = nn.Linear(d, width)
        self.up = nn.Linear(width, d)
        self.activation = activation
        nn.init.normal_(self.down.weight, std=d**-0.5)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, states: Tensor) -> Tensor:
        """Return states `[…, d]` with the bottleneck's output added."""
        changed: Tensor = self.up(_ACTIVATIONS[self.activation](self.down(states)))
        return states + changed


def add_adapters(
    module: nn.Module,
    *,
    width: int = 16,
    targets: str | Iterable[str] | None = None,
    activation: str = "gelu",
    freeze: bool = True,
    keep: Iterable[str] = (),
    seed: int = 0,
) -> nn.Module:
    """Return a copy of a module with bottleneck adapters behind some of its submodules.

    A submodule keeps its name and its parameters theirs; the adapter is its child `adapter`.

    Args:
        module: left as it is.
        width: of the bottlenecks.
        targets: glob patterns of submodules' names; by default the last layers of attention and
            feed-forward blocks, as they are called in `transformers`, and those of
            `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer`.
        activation: `"gelu"`, `"relu"`, `"tanh"` or `"silu"`.
        freeze: take the base's parameters out of training; else they are shared and meta-learned.
        keep: glob patterns of the base's parameters that are trained in spite of `freeze`, such as a head's.
        seed: of the adapters' random start.

    Raises:
        SettingsError: an option is out of its range, or a pattern matches nothing that can take an adapter.
    """
    if width < 1 or activation not in _ACTIVATIONS:
        raise SettingsError(
            f"expected width ≥ 1 and an activation of {', '.join(_ACTIVATIONS)}, "
            f"found width={width} and activation={activation!r}."
        )
    base = copy.deepcopy(module)
    names = _chosen(base, targets, _default_sublayers(base), _output_width, "adapters")
    _freeze(base, freeze, keep)
    with _seeded(seed):
        for name in names:
            place = base.get_submodule(name)
            like = next(place.parameters())
            adapter = Adapter(_output_width(base, name), width, activation)
            place.add_module("adapter", adapter.to(device=like.device, dtype=like.dtype))
            place.register_forward_hook(_through_adapter)
    _without_fast_path(base)
    return base


def add_lora(
    module: nn.Module,
    *,
    rank: int = 8,
    alpha: int = 16,
    targets: str | Iterable[str] | None = None,
    freeze: bool = True,
    keep: Iterable[str] = (),
    seed: int = 0,
) -> nn.Module:
    """Return a copy of a module with low-rank updates of some of its layers, made by peft.

    A layer's own weight is then called `….base_layer.weight`.

    Args:
        module: left as it is.
        rank: r of the updates.
        alpha: α; updates are scaled by α / r.
        targets: glob patterns of the names of linear, embedding and convolution layers; by default the
            projections that make queries and values, as they are called in `transformers`, and the
            feed-forward layers of `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer`, whose
            attention has one weight for all projections.
        freeze: take the base's parameters out of training; else they are shared and meta-learned.
        keep: glob patterns of the base's parameters that are trained in spite of `freeze`, such as a head's.
            The names are those before the insertion.
        seed: of the updates' random start.

    Raises:
        MissingExtraError: peft is not installed.
        SettingsError: an option is out of its range, or a pattern matches nothing that can be updated.
    """
    if rank < 1 or not alpha > 0:
        raise SettingsError(f"expected rank ≥ 1 and alpha > 0, found rank={rank} and alpha={alpha}.")
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an optional extra, and heavy
    except ImportError as error:
        raise MissingExtraError("peft", "lora", "adding low-rank updates") from error
    base = copy.deepcopy(module)
    names = _chosen(base, targets, _default_projections(base), _updatable, "low-rank updates")
    _freeze(base, freeze, keep)
    trainable = {id(p) for p in base.parameters() if p.requires_grad}
    # As an expression, for peft would take names for the ends of names.
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="|".join(map(re.escape, names)),
        fan_in_fan_out=all(type(base.get_submodule(name)).__name__ == "Conv1D" for name in names),
    )
    with _seeded(seed):
        inject_adapter_in_model(config, base)
    for name, parameter in base.named_parameters():
        parameter.requires_grad_(id(parameter) in trainable or "lora_" in name)
    _without_fast_path(base)
    return base


def _chosen(
    module: nn.Module, targets: str | Iterable[str] | None, usual: Sequence[str], able: Any, what: str
) -> list[str]:
    """The names of the submodules that are meant, all of which can take the insertion."""
    names = [name for name, _ in module.named_modules() if name]
    if targets is None:
        if not usual:
            raise SettingsError(
                f"expected a transformer whose layers' names are known, found {type(module).__name__} with "
                f"{', '.join(names[:6])}{', …' if len(names) > 6 else ''}.",
                hint=f"Say which submodules take {what}: targets='*.linear', for one.",
            )
        return list(usual)
    patterns = [targets] if isinstance(targets, str) else list(targets)
    found: set[str] = set()
    for pattern in patterns:
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            raise SettingsError(
                f"expected submodules to take {what}, found none that {pattern!r} stands for among "
                f"{len(names)}: {', '.join(names[:6])}{', …' if len(names) > 6 else ''}.",
                hint=suggestion(pattern, names),
            )
        found |= {name for name in matched if able(module, name)}
        if not found & set(matched):
            kinds = sorted({type(module.get_submodule(name)).__name__ for name in matched})
            raise SettingsError(
                f"expected submodules that can take {what}, found {', '.join(kinds)} for {pattern!r}.",
                hint="Linear layers can; nn.MultiheadAttention, of one weight for all, takes adapters only.",
            )
    if not found:
        raise SettingsError(f"expected patterns of submodules to take {what}, found none.")
    return [name for name in names if name in found]


def _default_projections(module: nn.Module) -> list[str]:
    names = _in_layers(module, _PROJECTIONS)
    feed_forward = [f"{n}.linear{i}".lstrip(".") for n, _ in _plain_layers(module) for i in (1, 2)]
    return [n for n in [*names, *feed_forward] if n and _updatable(module, n)]


def _default_sublayers(module: nn.Module) -> list[str]:
    names = _in_layers(module, _SUBLAYERS)
    plain = [
        f"{n}.{part}".lstrip(".")
        for n, layer in _plain_layers(module)
        for part in ("self_attn", "multihead_attn", "linear2")
        if hasattr(layer, part)
    ]
    return [n for n in [*names, *plain] if n and _output_width(module, n)]


def _in_layers(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The submodules of numbered layers that patterns stand for: heads have layers of the same names."""
    names = [name for name, _ in module.named_modules() if re.search(r"\.\d+\.", f".{name}.")]
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _plain_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in module.named_modules():
        if isinstance(part, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            yield name, part


def _is_fused(module: nn.Module, name: str) -> bool:
    """Whether a layer belongs to an attention that reads its weight and does not call it."""
    owner = name.rpartition(".")[0]
    return bool(owner) and isinstance(module.get_submodule(owner), nn.MultiheadAttention)


def _updatable(module: nn.Module, name: str) -> bool:
    part = module.get_submodule(name)
    kinds = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d)
    return (isinstance(part, kinds) or type(part).__name__ == "Conv1D") and not _is_fused(module, name)


def _output_width(module: nn.Module, name: str) -> int:
    """The last dimension of what a submodule returns; 0 if that is not known."""
    part: Any = module.get_submodule(name)
    if _is_fused(module, name):
        return 0
    if isinstance(part, nn.LayerNorm):
        return int(part.normalized_shape[-1])
    for kind, width in ((nn.Linear, "out_features"), (nn.MultiheadAttention, "embed_dim")):
        if isinstance(part, kind):
            return int(getattr(part, width))
    if isinstance(part, nn.Embedding):
        return int(part.embedding_dim)
    return int(part.nf) if type(part).__name__ == "Conv1D" else 0


def _through_adapter(place: Any, args: Any, output: Any) -> Any:
    """A forward hook: the submodule's output, or the first of several, through its adapter."""
    if isinstance(output, tuple):
        return (place.adapter(output[0]), *output[1:])
    return place.adapter(output)


def _freeze(module: nn.Module, freeze: bool, keep: Iterable[str]) -> None:
    if not freeze:
        return
    patterns = [keep] if isinstance(keep, str) else list(keep)
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SettingsError(
                f"expected parameters to keep in training, found none that {pattern!r} stands for.",
                hint=suggestion(pattern, names),
            )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))


def _without_fast_path(module: nn.Module) -> None:
    """Have PyTorch's transformer layers call their parts, whose weights alone their fast path reads."""
    for _, layer in _plain_layers(module):
        if isinstance(layer, nn.TransformerEncoderLayer):
            layer.activation_relu_or_gelu = 0


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers from a seed, without a trace in those that follow."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        yield
