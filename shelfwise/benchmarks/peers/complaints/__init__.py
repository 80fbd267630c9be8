"""Complaints from the public trackers of search programs, as cases that run against several of them."""
