"""Judgments files, as everything that measures reads them: see `retrieval.judgments`."""

from __future__ import annotations

from retrieval.judgments import HEADER, Judgments, read_judgments

__all__ = ["HEADER", "Judgments", "read_judgments"]
