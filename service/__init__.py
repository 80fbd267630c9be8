"""What a user touches: the engine, its settings, the commands and the demo store."""
