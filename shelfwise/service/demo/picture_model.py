"""The small picture encoder of the demo store: CLIP (Radford et al. 2021), trained from scratch on drawings.

    python -m shelfwise.service.demo.picture_model FOLDER

The training pictures use a seed of their own: their types, colours, patterns and words are those of the demo store, the
pictures are not. Training takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from shelfwise.service.demo.catalog import Dice, named_rng
from shelfwise.service.demo.drawings import COLOURS, PATTERNS, Look, draw
from shelfwise.service.demo.grammar import GRAMMARS, Grammar, ProductType
from shelfwise.service.demo.looks import caption, random_look

SEED = 20_250_105
"""Seed of the training data; it is not the seed of any store."""
_SIDE, _PATCH, _HIDDEN, _LAYERS, _DIMENSION = 48, 8, 96, 3, 64
_WORDS = 900
_TOKENS = 24
_PICTURES, _STEPS, _BATCH, _RATE = 5_000, 3_000, 128, 1.5e-3
_HEAD_SCALE = 10.0
_cross_entropy = torch.nn.functional.cross_entropy
_MEAN, _DEVIATION = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]


@dataclass(frozen=True, slots=True)
class _Sample:
    """A drawn picture with its type and looks."""

    pixels: NDArray[np.uint8]
    grammar: Grammar
    kind: ProductType
    look: Look


def _samples(count: int) -> list[_Sample]:
    dice = Dice(SEED, "picture model/samples")
    kinds = [(grammar, kind) for grammar in GRAMMARS for kind in grammar.types]
    found = []
    for number in range(count):
        grammar, kind = kinds[number % len(kinds)]
        look = random_look(kind, dice)
        drawn = draw(kind.names, look, named_rng(SEED, f"picture model/{number}"), _SIDE)
        found.append(_Sample(np.asarray(drawn), grammar, kind, look))
    return found


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Trains a CLIP tokenizer on captions."""
    dice = Dice(SEED, "picture model/words")
    kinds = [(grammar, kind) for grammar in GRAMMARS for kind in grammar.types]
    looks = [Look(colour, pattern) for colour in COLOURS for pattern in PATTERNS]
    texts = [caption(kind, dice.pick(looks), grammar, dice)[0] for _ in range(20) for grammar, kind in kinds]
    bare = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))  # noqa: S106 - no password
    made = CLIPTokenizer().backend_tokenizer
    bare.normalizer, bare.pre_tokenizer = made.normalizer, made.pre_tokenizer
    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_WORDS, special_tokens=special, initial_alphabet=alphabet, end_of_word_suffix="</w>"
    )
    bare.train_from_iterator(texts, trainer)
    model = json.loads(bare.to_str())["model"]
    merges: Any = [tuple(pair) for pair in model["merges"]]
    # At the end of a word a character has a token of its own.
    vocabulary = model["vocab"]
    for character in alphabet:
        vocabulary.setdefault(f"{character}</w>", len(vocabulary))
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=_TOKENS)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _new_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    torch.manual_seed(SEED)
    tower = {
        "hidden_size": _HIDDEN,
        "intermediate_size": 2 * _HIDDEN,
        "num_attention_heads": 4,
        "projection_dim": _DIMENSION,
    }
    text = {
        **tower,
        "num_hidden_layers": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": _TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**tower, "num_hidden_layers": _LAYERS, "image_size": _SIDE, "patch_size": _PATCH}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=_DIMENSION))


def _traits(samples: Sequence[_Sample]) -> torch.Tensor:
    """(n, 3) indices of each picture's type, colour and pattern."""
    numbers = {key: number for number, key in enumerate(sorted({each.kind.key for each in samples}))}
    places = (
        (numbers[each.kind.key], [*COLOURS].index(each.look.colour), PATTERNS.index(each.look.pattern))
        for each in samples
    )
    return torch.tensor([*places])


def _true_pairs(traits: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
    """(n, n): whether each caption is true of each picture; `named` (n, 3) marks the traits that a caption names."""
    return ((traits[:, None] == traits[None]) | ~named[:, None]).all(2)


def _loss(logits: torch.Tensor, is_true: torch.Tensor) -> torch.Tensor:
    """Contrastive loss in both directions; all true pairs of a row are positives (Khosla et al. 2020, eq. 2)."""
    losses = []
    for scores, right in ((logits, is_true), (logits.T, is_true.T)):
        share = right / right.sum(1, keepdim=True)
        losses.append(-(share * scores.log_softmax(1)).sum(1).mean())
    return (losses[0] + losses[1]) / 2


def _batches(count: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """`steps` batches of indices below `count`, reshuffled in every epoch."""
    shuffle = np.random.default_rng(SEED)
    order = np.concatenate([shuffle.permutation(count) for _ in range(1 + steps * _BATCH // count)])
    for start in range(0, steps * _BATCH, _BATCH):
        yield order[start : start + _BATCH]


def _pixels(samples: Sequence[_Sample], dice: np.random.Generator) -> torch.Tensor:
    """Pictures of a batch as a normalised tensor, all shifted by up to three pixels."""
    stacked = np.stack([each.pixels for each in samples])
    moved = np.roll(stacked, dice.integers(-3, 4, 2), (1, 2))
    return (torch.from_numpy(moved).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def train(folder: Path, *, steps: int = _STEPS, pictures: int = _PICTURES) -> float:
    """Trains the model on drawn pictures, writes it as a sentence-transformers folder, and returns the last loss."""
    samples = _samples(pictures)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        tokenizer = _tokenizer(place)
        model = _new_model(tokenizer)
        loss = _fit(model, tokenizer, samples, steps)
        rounded: Any = model
        rounded.half().save_pretrained(place)
        processor = CLIPImageProcessor(
            size={"shortest_edge": _SIDE},
            crop_size={"height": _SIDE, "width": _SIDE},
            image_mean=_MEAN,
            image_std=_DEVIATION,
        )
        make: Any = CLIPProcessor
        make(processor, tokenizer).save_pretrained(place)
        shutil.rmtree(folder, ignore_errors=True)
        SentenceTransformer(str(place), device="cpu", local_files_only=True).save(str(folder), create_model_card=False)
    # The weights are stored with 16 bits, and loaded with 32.
    config = folder / "config.json"
    config.write_text(config.read_text("utf-8").replace("float16", "float32"), "utf-8")
    return loss


def _fit(model: CLIPModel, tokenizer: CLIPTokenizer, samples: Sequence[_Sample], steps: int) -> float:
    """Minimises the contrastive loss and that of auxiliary linear heads for type, colour and pattern (not saved)."""
    dice, jitter, traits = Dice(SEED, "picture model/captions"), np.random.default_rng(SEED), _traits(samples)
    network: Any = model.train()
    heads = torch.nn.ModuleList([torch.nn.Linear(_DIMENSION, int(each) + 1) for each in traits.max(0).values])
    weights = [*network.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps, pct_start=0.1)
    loss = torch.tensor(0.0)
    for number, places in enumerate(_batches(len(samples), steps)):
        batch, shown = [samples[at] for at in places], traits[places]
        captions = [caption(each.kind, each.look, each.grammar, dice) for each in batch]
        texts = tokenizer([text for text, _ in captions], padding=True, truncation=True, return_tensors="pt")
        outputs = network(pixel_values=_pixels(batch, jitter), **texts)
        loss = _loss(outputs.logits_per_text, _true_pairs(shown, torch.tensor([named for _, named in captions])))
        scores = (_HEAD_SCALE * head(outputs.image_embeds) for head in heads)
        total: Any = loss + sum(_cross_entropy(each, shown[:, at]) for at, each in enumerate(scores))
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        if number % 100 == 0:
            print(f"{number:,} of {steps:,} steps, loss {loss.item():.3f}", flush=True)  # noqa: T201
    network.eval()
    return loss.item()


def main() -> None:
    """Trains the model and writes it to the folder given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=_STEPS)
    options = parser.parse_args()
    train(options.folder, steps=options.steps)


if __name__ == "__main__":
    main()
