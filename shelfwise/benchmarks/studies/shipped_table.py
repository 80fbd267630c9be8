"""The shipped table encoder: the static encoder of an index, with fewer columns and in int8."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
from safetensors.numpy import load_file, save_file
from typer import Argument, Option

from shelfwise.benchmarks.studies import run_study
from shelfwise.retrieval.encoders.base import PROJECTION_FILE
from shelfwise.retrieval.encoders.folder import TOKENIZER_FILE, TORCH_FOLDER
from shelfwise.retrieval.encoders.static import quantise_rows
from shelfwise.retrieval.encoders.weights import DEFAULT_MODEL, MODULES_FILE, ORIGIN_FILE
from shelfwise.retrieval.store.files import atomic_folder
from shelfwise.service.cli.options import command
from shelfwise.service.cli.output import say
from shelfwise.service.engine.snapshot import serving_snapshot


def pack_table(source: Path, target: Path, columns: int) -> float:
    """Writes a StaticEmbedding folder of `columns` columns and int8 rows in model2vec's format to `target`, atomically;
    returns the kept share of the rows' squared length.

    Columns are the principal directions of the rows, so that the first ones keep most of the dot products.
    """
    rows = load_file(source / "model.safetensors")["embedding.weight"]
    projection = np.load(source / PROJECTION_FILE)
    lengths, ascending = np.linalg.eigh(rows.T @ rows)
    directions = ascending[:, ::-1][:, :columns]
    packed, scales = quantise_rows(rows @ directions)
    with atomic_folder(target) as scratch:
        save_file({"embeddings": packed, "weights": scales}, scratch / "model.safetensors")
        np.save(scratch / PROJECTION_FILE, np.ascontiguousarray(directions.T @ projection, np.float32))
        for name in (TOKENIZER_FILE, MODULES_FILE):
            shutil.copy(source / name, scratch / name)
        (scratch / ORIGIN_FILE).write_text(f"{DEFAULT_MODEL}\n", "utf-8")
    return float(lengths[::-1][:columns].sum() / lengths.sum())


@command("shipped_table general-store --out english-table")
def shipped_table_command(
    index: Annotated[Path, Argument(help=f"Index built with --encoder static:{DEFAULT_MODEL}.", metavar="INDEX")],
    out: Annotated[Path, Option(help="New folder for the table.")],
    columns: Annotated[int, Option(help="Columns to keep.", min=1, max=384)] = 256,
) -> None:
    """Pack the static encoder of an index as the table that is shipped for installations without torch."""
    with serving_snapshot(index) as snapshot:
        encoder = snapshot.manifest.encoder
    share = pack_table(index / "encoders" / encoder / TORCH_FOLDER, out, columns)
    say(f"Written to {out}: {share:.1%} of the squared length of the rows in {columns} columns")


if __name__ == "__main__":
    run_study(shipped_table_command)
