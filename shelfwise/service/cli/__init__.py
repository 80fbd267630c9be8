"""The `shelfwise` program: its commands, options and output."""
