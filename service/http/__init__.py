"""The HTTP API: searches, changes, events and versions of one index directory, for front ends and back offices."""
