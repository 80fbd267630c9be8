"""The teacher that is used where none is named; a module of its own, which is quick to import."""

from __future__ import annotations

DEFAULT_TEACHER = "cross-encoder/ms-marco-MiniLM-L-12-v2"
