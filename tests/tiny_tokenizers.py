"""A tokenizer of a model that a test makes in a moment: pieces of the words that the test names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Come first among the names."""


def tiny_tokenizer(names: Sequence[str], length: int, *inputs: str) -> PreTrainedTokenizerFast:
    """Of texts up to so many tokens, as BERT's; `inputs` are what the model reads, by default ids and mask."""
    numbers = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])],
    )
    wrapped: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return wrapped(
        tokenizer_object=tokenizer,
        model_max_length=length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        **({"model_input_names": list(inputs)} if inputs else {}),
    )
