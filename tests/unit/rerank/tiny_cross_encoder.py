"""A real cross-encoder of two layers with random weights, made quickly and without a model hub."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from transformers import BertForSequenceClassification

from tests.encoders import SPECIAL, tiny_bert, tiny_tokenizer

WORDS = ("cordless", "drill", "toner", "cartridge", "lamp", "garden", "hose", "black", "case", "charger", "steel")
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!"
_CHINESE = "笔记本电脑无线钻蓝牙耳机充宝红色"


def make_cross_encoder(folder: Path, *, outputs: int = 1, layers: int = 2) -> Path:
    torch.manual_seed(3)
    names = [*SPECIAL, *_CHARACTERS, *(f"##{one}" for one in _CHARACTERS), *_CHINESE, *WORDS]
    config = tiny_bert(names, 64, layers, initializer_range=0.3)
    config.num_labels = outputs
    BertForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer(names, 64, "input_ids", "token_type_ids", "attention_mask").save_pretrained(folder)
    return folder


def pairs_of(count: int, seed: int = 5) -> tuple[list[str], list[str]]:
    dice = random.Random(seed)
    queries = [" ".join(dice.choices(WORDS, k=dice.randint(0, 4))) for _ in range(count)]
    return queries, [" ".join(dice.choices((*WORDS, "x100", "红色"), k=dice.randint(0, 30))) for _ in range(count)]


def changed_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")
