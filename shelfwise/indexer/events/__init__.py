"""Import of event logs: from files in many formats into the event store."""
