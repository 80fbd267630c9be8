"""Interfaces for users: the engine, its settings, HTTP, the commands and the demo store."""
