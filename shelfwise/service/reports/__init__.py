"""Reports of events, exposure and training, in a terminal and as JSON."""
