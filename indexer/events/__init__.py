"""Logs of events: from files in many formats into the store of events."""
