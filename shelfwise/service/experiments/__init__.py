"""Experiments: random assignment of searches to variants, and the analysis of shoppers' behaviour."""
