"""Estimates of relevance from clicks: click logs, click models, simulated shoppers, labels."""
