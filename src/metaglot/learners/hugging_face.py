"""What Hugging Face models need before their forward can be vmapped and differentiated twice.

- Eager attention: fused kernels have no second derivative.
- A padding mask of four dimensions, in floating point, for encoders: the code that turns a mask
  `[n, T]` into one branches on its values, which vmap cannot, and a boolean mask of four dimensions
  is added to the scores by eager attention as zeros and ones, silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

MASK = "attention_mask"


def is_hugging_face(module: nn.Module) -> bool:
    """Return whether a module is, or wraps, a model of `transformers`."""
    return hasattr(module, "config") and hasattr(module, "set_attn_implementation")


def fit_module(module: nn.Module) -> None:
    """Choose eager attention, and no cache of keys and values, in every `transformers` model within."""
    for part in module.modules():
        if is_hugging_face(part):
            model: Any = part
            model.set_attn_implementation("eager")
            if getattr(model.config, "use_cache", False):
                model.config.use_cache = False


def fit_inputs(module: nn.Module, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the inputs with an encoder's padding mask `[n, T]` as an additive `[n, 1, 1, T]`."""
    mask = inputs.get(MASK)
    if mask is None or not is_hugging_face(module) or not _bidirectional(module):
        return inputs
    if mask.ndim == 2:
        mask = mask[:, None, None, :]
    elif mask.is_floating_point():
        return inputs
    model: Any = module
    dtype = model.dtype if model.dtype.is_floating_point else torch.get_default_dtype()
    return {**inputs, MASK: (1 - mask.to(dtype)) * torch.finfo(dtype).min}


def _bidirectional(module: nn.Module) -> bool:
    return not any(getattr(part, "is_causal", False) for part in module.modules())
