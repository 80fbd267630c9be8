"""From raw events to what can be learned from: sessions, faults set aside, robots found, tables derived."""
