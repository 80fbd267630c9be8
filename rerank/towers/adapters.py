"""Low-rank adapters: a few matrices beside those of the model are trained in their place (LoRA, Hu et al. 2021, section
4.1), which takes little memory; in the end they are added to the model, which is then as fast as before.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel

from retrieval.errors import SettingError

ADAPTER_FOLDER = "adapter"
"""Beside a trained model: its adapters alone, as peft reads them."""


def attach(model: SentenceTransformer, rank: int, seed: int) -> PeftModel:
    """Puts adapters of a rank beside all matrices of the transformer, and leaves only them to be trained.

    They add nothing before the first step. Raises SettingError for a model whose first module is no transformer.
    """
    body = getattr(model[0], "model", None)
    if not isinstance(body, PreTrainedModel):
        raise SettingError("only a transformer can have low-rank adapters; train this model without them")
    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", bias="none")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers for what has another name since.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        adapted = get_peft_model(body, config)
    model[0].model = adapted
    return adapted


def merge(model: SentenceTransformer, adapted: PeftModel, folder: Path) -> None:
    """Writes a model's adapters to a folder of their own, and adds them to its weights."""
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    model[0].model = adapted.merge_and_unload()
