"""What Hugging Face models need before their forward can be vmapped and differentiated twice.

- Eager attention: fused kernels have no second derivative.
- Padding masks that are always built: where nothing is masked, `transformers` leaves an encoder's mask
  out, which it finds out by looking at the mask's values, and vmap cannot branch on values.
- Masks of four dimensions in floating point: eager attention adds a boolean one to the scores as zeros
  and ones, silently.

All of it is done to the copy of a model's structure that metaglot runs. What is registered with
`transformers` acts within that copy's forward alone.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from metaglot.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

MASK = "attention_mask"
_MASKING = "transformers.masking_utils"
_WITHIN: ContextVar[bool] = ContextVar("within", default=False)


def models_within(module: nn.Module) -> list[Any]:
    """Return the models of `transformers` that a module is or has in it, outer ones first."""
    found = sys.modules.get("transformers.modeling_utils")
    return [] if found is None else [m for m in module.modules() if isinstance(m, found.PreTrainedModel)]


def fit_module(module: nn.Module) -> bool:
    """Make every `transformers` model within differentiable twice, and return whether there is one."""
    models = models_within(module)
    for model in models:
        model.set_attn_implementation("eager")
        model.config.use_cache = False
        for part in model.modules():
            if getattr(part, "gradient_checkpointing", False):
                part.gradient_checkpointing = False  # its backward pass cannot be differentiated
        if _adds_masks(model):
            model.register_forward_pre_hook(_with_additive_mask, with_kwargs=True)
    if models:
        _register_masks()
    return bool(models)


@contextmanager
def masks_always() -> Iterator[None]:
    """Within it, padding masks are built without a look at their values."""
    token = _WITHIN.set(True)
    try:
        yield
    finally:
        _WITHIN.reset(token)


def input_names(module: nn.Module) -> frozenset[str]:
    """Return the names of tensors that a model's forward takes, itself or for a model within it."""
    forwards = [inspect.signature(m.forward).parameters.values() for m in models_within(module)]
    return frozenset(p.name for forward in forwards for p in forward if p.kind is not p.VAR_KEYWORD)


class MeanPooled(nn.Module):
    """A text's vector: the mean of an encoder's last hidden states over the tokens that are not padding.

    Args:
        encoder: a `transformers` model with `last_hidden_state` among its outputs.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return embeddings `[n, width]` of token numbers `[n, T]` and their mask `[n, T]`, 1 for a token.

        A text of no token has zeros.
        """
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        states: Tensor | None = getattr(output, "last_hidden_state", None)
        if states is None:
            raise SettingsError(
                f"expected an encoder with last_hidden_state among its outputs, found "
                f"{type(self.encoder).__name__} with {', '.join(output.keys())}.",
                hint="Load the bare model (AutoModel), or pool its output in a module of your own.",
            )
        if attention_mask is None:
            return states.mean(1)
        weights = attention_mask.to(states.dtype).unsqueeze(-1)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def _adds_masks(model: Any) -> bool:
    """Whether a model's attention adds its mask to the scores (DeBERTa's, for one, fills by it)."""
    names = vars(sys.modules[type(model).__module__])
    return any(name.startswith("create_") and name.endswith("_mask") for name in names)


def _with_additive_mask(model: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    mask = options.get(MASK)
    if isinstance(mask, torch.Tensor) and mask.ndim == 4 and not mask.is_floating_point():
        least = torch.finfo(model.dtype).min
        options = {**options, MASK: (1 - mask.to(model.dtype)) * least}
    return args, options


def _register_masks() -> None:
    """Put our function in the place of the one that builds masks for eager attention."""
    masking = sys.modules.get(_MASKING)
    if masking is None or masking.ALL_MASK_ATTENTION_FUNCTIONS["eager"] is _eager_mask:
        return
    if "allow_is_bidirectional_skip" in inspect.signature(masking.eager_mask).parameters:
        masking.AttentionMaskInterface.register("eager", _eager_mask)


def _eager_mask(*args: Any, **options: Any) -> Any:
    build: Callable[..., Any] = sys.modules[_MASKING].eager_mask
    if not _WITHIN.get():
        return build(*args, **options)
    dtype = options.pop("dtype", torch.float32)
    options["allow_is_bidirectional_skip"] = False
    # Scores are made float32 in a softmax, where the least float64 is infinite: a row that is wholly
    # masked would be no number.
    least = torch.float32 if dtype is torch.float64 else dtype
    mask = build(*args, dtype=least, **options)
    return None if mask is None else mask.to(dtype)


def tensor_of(output: Any) -> Any:
    """Return the logits of a `transformers` output, the first of a tuple, or the output itself."""
    if isinstance(output, torch.Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, Sequence) and len(output) and isinstance(output[0], torch.Tensor):
        return output[0]
    found = f"{type(output).__name__} with {', '.join(output)}" if hasattr(output, "keys") else repr(output)
    raise SettingsError(
        f"expected a tensor, a tuple with a tensor first, or logits from the module, found {found}.",
        hint="Say what of it is meant: output=lambda found: found.last_hidden_state, for one.",
    )
