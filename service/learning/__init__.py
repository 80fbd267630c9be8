"""`shelfwise learn`: one run from the store of events to a ranker with a verdict, and the report on it."""
