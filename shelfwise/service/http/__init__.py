"""The HTTP API of one index or several: searches, changes, events and versions, for front ends and back offices."""
