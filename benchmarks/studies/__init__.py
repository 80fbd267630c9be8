"""Studies: one module for each question that `shelfwise bench` answers, and the commands that ask it."""
