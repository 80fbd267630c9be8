"""From a catalog feed to a published version: read, check, encode, index, publish."""
