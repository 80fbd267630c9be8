"""Quality, recall and latency, measured by commands that anyone can run."""
