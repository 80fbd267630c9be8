"""The `shelfwise` program: its commands, their options, what they print."""
