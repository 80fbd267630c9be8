"""Stored events: the event log, tables for engines, erasure and retention."""
