"""Cleaning: repairs of values that have only one possible repair, counted by rule."""
