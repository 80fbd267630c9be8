"""The demo store: a small lifelike catalog with queries of known grades and shoppers' events, made from a grammar."""

from __future__ import annotations

from service.demo.generator import DemoFiles, write_demo_store

__all__ = ["DemoFiles", "write_demo_store"]
