"""Unit, contract, property and integration tests."""
