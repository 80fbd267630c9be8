"""The demo store: a small realistic catalog with graded queries and shoppers' events, generated from a grammar."""

from __future__ import annotations

from shelfwise.service.demo.generator import DemoFiles, write_demo_store

__all__ = ["DemoFiles", "write_demo_store"]
