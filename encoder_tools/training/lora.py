"""LoRA adapters, merged into the body at the end, so that the model keeps its architecture.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; by the package peft.
"""

from __future__ import annotations

from typing import Any

import torch

from encoder_tools.errors import InputError, one_line
from encoder_tools.extras import require_extra
from encoder_tools.training.recipe import Recipe

_EVERY = "all-linear"


class Adapters:
    """Adapters in the body of a sentence-transformers model, whose own weights are frozen; its heads are trained whole.

    :param model: changed in place.
    :raises MissingExtraError: if peft is not installed.
    :raises InputError: if the body has none of the layers that the recipe names.
    """

    def __init__(self, model: Any, recipe: Recipe) -> None:
        require_extra("train", "peft")
        from peft import LoraConfig, LoraModel

        settings, body = recipe.lora, model[0].model
        torch.manual_seed(recipe.training.seed)  # one half of each adapter starts at random
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha or 2 * settings.rank,
            target_modules=list(settings.targets) or _EVERY,
            lora_dropout=0.0,
        )
        try:
            self._peft = LoraModel(body, config, "default")  # changes the body in place
        except ValueError as error:
            raise InputError(
                f"targets of [lora] are {list(settings.targets)}, of which the base has none ({one_line(error)}). "
                "Leave targets out for every linear layer."
            ) from None
        for module in list(model)[1:]:
            module.requires_grad_(True)

    def merge(self) -> None:
        """Add the adapters to the weights they stand beside, and take them out."""
        self._peft.merge_and_unload()
