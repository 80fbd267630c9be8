"""The gate: whether a newly trained ranker is good enough to serve in the place of another."""
