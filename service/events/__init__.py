"""Events as a store keeps them: the event log, files for engines, erasure and retention."""
