"""What adapts of an encoder, and how what was learned comes back into one set of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from metaglot.errors import SettingsError
from metaglot.learners.insertions import add_lora
from metaglot.tuning.settings import TuneSettings
from metaglot.types import Params

if TYPE_CHECKING:
    from torch import Tensor


def prepare(model: nn.Module, settings: TuneSettings) -> nn.Module:
    """Return the model, or a copy with low-rank updates, in which only what adapts needs gradients.

    What is frozen runs without dropout, and below the lowest part that adapts PyTorch keeps no graph.

    Raises:
        SettingsError: the model has no layers that are known, or fewer than were asked for.
        MissingExtraError: peft is not installed.
    """
    layers = find_layers(model)
    if isinstance(settings.layers, int) and settings.layers > len(layers):
        raise SettingsError(
            f"expected at most the encoder's {len(layers)} layers, found layers={settings.layers}.",
            hint="layers=all is all of them.",
        )
    model.requires_grad_(False).eval()
    if settings.layers == "lora":
        model = add_lora(model, rank=settings.rank, alpha=2 * settings.rank, seed=settings.seed)
        layers = find_layers(model)
        layers.train()
    else:
        count = len(layers) if settings.layers == "all" else settings.layers
        for layer in list(layers)[-count:]:
            layer.requires_grad_(True).train()
    if settings.embeddings:
        _embeddings(model).requires_grad_(True).train()
    return model


def find_layers(model: nn.Module) -> nn.ModuleList:
    """Return the list of a transformer's layers.

    Raises:
        SettingsError: there is none of the length that the configuration states.
    """
    config = getattr(model, "config", None)
    stated = getattr(config, "num_hidden_layers", None)
    for part in model.modules():
        if isinstance(part, nn.ModuleList) and len(part) == stated:
            return part
    raise SettingsError(
        f"expected a transformer with a list of its layers, found {type(model).__name__}.",
        hint="Tune another encoder, such as e5-small.",
    )


def _embeddings(model: nn.Module) -> nn.Module:
    """The module that all embeddings and their norm are parts of, or the table of words alone."""
    table = model.get_input_embeddings()  # type: ignore[operator]
    name = next(name for name, part in model.named_modules() if part is table)
    owner = name.rpartition(".")[0]
    found: nn.Module = model.get_submodule(owner) if owner else table
    return found


def changeable(model: nn.Module, settings: TuneSettings) -> Params:
    """Return copies of the parameters of a plain model that tuning may change, by name."""
    parts = [find_layers(model), *([_embeddings(model)] if settings.embeddings else [])]
    chosen = {id(value) for part in parts for value in part.parameters()}
    return {name: v.detach().clone() for name, v in model.named_parameters() if id(v) in chosen}


def adapting(model: nn.Module) -> Params:
    """Return the parameters that need gradients, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def merged(model: nn.Module) -> nn.Module:
    """Merge low-rank updates into the weights they belong to, in place; the model is a plain one again."""
    inserted = [(name, part) for name, part in model.named_modules() if hasattr(part, "get_base_layer")]
    for name, part in inserted:
        part.merge()
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, part.get_base_layer())
    return model


class Way:
    """From the pretrained weights to the tuned ones, and any point between.

        θ(α) = (1 − α) θ₀ + α θ₁

    Wortsman et al. (2022), "Robust fine-tuning of zero-shot models" (WiSE-FT), eq. 1: between the two
    lie weights that are good at what was tuned and still at what was not.

    Args:
        start: θ₀ by name, of a plain model's parameters that may have changed.
        model: the plain model with θ₁, which `go` changes in place.
    """

    def __init__(self, start: Mapping[str, Tensor], model: nn.Module) -> None:
        now = dict(model.named_parameters())
        self._places = {name: now[name] for name in start}
        self._ends = {
            name: (start[name].to(value.device), value.detach().clone())
            for name, value in self._places.items()
        }

    def go(self, share: float) -> None:
        """Set the weights to those at `share` of the way; at 0 and 1 they are the ends', bit for bit."""
        with torch.no_grad():
            for name, place in self._places.items():
                begin, end = self._ends[name]
                place.copy_(end if share == 1 else begin if share == 0 else torch.lerp(begin, end, share))
