"""SASRec of the library replay-rec on the purchases of `benchmarks.studies.recommend`, by the recipe that leads public
tables: one block, dropout of .2, and a softmax over 256 sampled negatives (Klenitskiy & Vasilev 2023, Turning Dross
Into Gold Loss), or gSASRec's calibrated binary cross-entropy over as many (Petrov & Macdonald 2023, gSASRec).

The library requires older releases of pandas, polars, pyarrow and scikit-learn than Shelfwise, so it runs in a separate
environment:

    uv run --no-project --with "replay-rec[torch]==0.22.0" \
        python -m benchmarks.peers.sasrec cases.npz softmax sasrec.npz
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.loss import BCESampled, CESampled
from replay.nn.sequential import SasRec
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from benchmarks.peers.recommenders import Part, ndcg, read_cases

_ITEM, _LENGTH, _NEGATIVES, _BATCH, _RATE = "item_id", 50, 256, 128, 1e-3
_WIDTHS = (64, 128)
_EPOCHS, _EVERY, _PATIENCE = 120, 2, 5
_CALIBRATION = 0.75
"""gSASRec's t: 0 keeps the probabilities that negative sampling inflates, 1 corrects them fully."""
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class CalibratedBCE(BCESampled):  # type: ignore[misc]
    """gSASRec's loss: the positive's probability to the power of beta (equations 6 and 7)."""

    def __init__(self, items: int) -> None:
        super().__init__()
        rate = _NEGATIVES / max(items - 1, _NEGATIVES)
        self.beta = rate * (_CALIBRATION * (1 - 1 / rate) + 1 / rate)

    def forward(
        self,
        model_embeddings: torch.Tensor,
        feature_tensors: object,  # noqa: ARG002
        positive_labels: torch.Tensor,
        negative_labels: torch.Tensor,
        padding_mask: torch.Tensor,  # noqa: ARG002
        target_padding_mask: torch.Tensor,
    ) -> torch.Tensor:
        """The mean over positions of the sum over a positive and its negatives."""
        given = self.get_sampled_logits(model_embeddings, positive_labels, negative_labels, target_padding_mask)
        negative = given["negative_logits"]
        is_other = (given["negative_labels"] != given["positive_labels"]).to(negative.dtype)
        against = binary_cross_entropy_with_logits(negative, torch.zeros_like(negative), is_other, reduction="none")
        made: torch.Tensor = (against.sum(dim=1) - self.beta * logsigmoid(given["positive_logits"][:, 0])).mean()
        return made


class Sequences:
    """Histories, concatenated, as item numbers from 0; -1 for none."""

    def __init__(self, products: Ints, starts: Ints) -> None:
        self.products, self.starts = products, starts

    def windows(self) -> Ints:
        """(n, length + 1): each act except the first is a target once."""
        made = []
        for start, end in zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True):
            made += [
                self._padded(max(start, at - _LENGTH - 1), at, _LENGTH + 1) for at in range(end, start + 1, -_LENGTH)
            ]
        return np.stack(made)

    def newest(self) -> Ints:
        """(n, length): the last acts."""
        bounds = zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)
        return np.stack([self._padded(max(start, end - _LENGTH), end, _LENGTH) for start, end in bounds])

    def _padded(self, start: int, end: int, length: int) -> Ints:
        return np.concatenate([np.full(length - (end - start), -1), self.products[start:end]])


class Recommender:
    """SASRec over the items that were bought."""

    def __init__(self, learned: Sequences, loss: str, width: int) -> None:
        torch.manual_seed(0)
        self.items, numbers = np.unique(learned.products, return_inverse=True)
        self._learned = Sequences(numbers.astype(np.int64), learned.starts).windows()
        count = len(self.items)
        source = [TensorFeatureSource(FeatureSource.INTERACTIONS, _ITEM)]
        item = TensorFeatureInfo(
            _ITEM,
            is_seq=True,
            feature_type=FeatureType.CATEGORICAL,
            embedding_dim=width,
            padding_value=count,
            cardinality=count,
            feature_hint=FeatureHint.ITEM_ID,
            feature_sources=source,
        )
        self.model = SasRec.from_params(
            TensorSchema([item]), width, num_heads=2, num_blocks=1, max_sequence_length=_LENGTH, dropout=0.2
        )
        self.model.loss = CESampled() if loss == "softmax" else CalibratedBCE(count)
        self.model.loss.logits_callback = self.model.get_logits
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=_RATE, betas=(0.9, 0.98))
        self._random = np.random.default_rng(0)

    def train_epoch(self) -> None:
        """Every purchase except a shopper's first is a target once; a batch shares its negatives, as in the library's
        sampler."""
        self.model.train()
        for part in self._batches():
            filled = torch.from_numpy(np.where(part < 0, len(self.items), part))
            known = torch.from_numpy(part >= 0)
            negatives = torch.from_numpy(self._random.integers(len(self.items), size=_NEGATIVES))
            wanted = (known[:, 1:] & known[:, :-1])[..., None]
            given = {_ITEM: filled[:, :-1]}
            made = self.model.forward_train(given, known[:, :-1], filled[:, 1:, None], negatives, wanted)
            self._optimizer.zero_grad()
            made["loss"].backward()
            self._optimizer.step()

    def _batches(self) -> Iterator[Ints]:
        order = self._random.permutation(len(self._learned))
        for start in range(0, len(order), _BATCH):
            part = self._learned[order[start : start + _BATCH]]
            yield part[:, (part >= 0).any(axis=0).argmax() :]

    @torch.inference_mode()
    def scores(self, histories: Sequences, count: int) -> Floats:
        """(n, count): minus infinity for products that nobody bought."""
        self.model.eval()
        number = np.full(count + 1, -1)
        number[self.items] = np.arange(len(self.items))
        made = np.full((len(histories.starts) - 1, count), -np.inf, np.float32)
        known = number[histories.products] >= 0
        kept = np.concatenate([[0], np.cumsum(known)])
        newest = Sequences(number[histories.products[known]], kept[histories.starts]).newest()
        for start in range(0, len(newest), _BATCH):
            part = torch.from_numpy(newest[start : start + _BATCH])
            given = {_ITEM: part.where(part >= 0, len(self.items))}
            made[start : start + _BATCH, self.items] = self.model.forward_inference(given, part >= 0)["logits"].numpy()
        return made


def main(cases: str, loss: str, out: str) -> None:
    """Chooses the width and the number of epochs on the choosing part, trains on everything before the measuring part,
    and writes the scores of its cases (n, N)."""
    count, hide_seen, choosing, measuring = read_cases(cases)

    def parts(part: Part) -> tuple[Sequences, Sequences]:
        return Sequences(part["products"], part["starts"]), Sequences(part["case_products"], part["case_starts"])

    learned, cases_of = parts(choosing)
    best = (-1.0, 0, 0)
    for width in _WIDTHS:
        model, here = Recommender(learned, loss, width), (-1.0, 0, 0)
        for epoch in range(1, _EPOCHS + 1):
            model.train_epoch()
            if epoch % _EVERY == 0:
                here = max(here, (ndcg(model.scores(cases_of, count), choosing, hide_seen=hide_seen), -epoch, width))
                if epoch + here[1] >= _PATIENCE * _EVERY:
                    break
        sys.stderr.write(f"{width} wide: {here[0]:.4f} after {-here[1]} epochs\n")
        best = max(best, here)
    learned, cases_of = parts(measuring)
    model = Recommender(learned, loss, best[2])
    for _ in range(-best[1]):
        model.train_epoch()
    np.savez_compressed(out, scores=model.scores(cases_of, count))


if __name__ == "__main__":
    given, chosen_loss, written = sys.argv[1:]
    main(given, chosen_loss, written)
