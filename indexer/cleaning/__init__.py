"""Cleaning: what is wrong with a value in a way that only one repair can follow from, repaired and counted."""
