"""What a store's people decide: merchandising rules and synonyms, kept as data with a log of every change."""
