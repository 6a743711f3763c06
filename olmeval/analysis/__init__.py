"""Decisions from tables of results: comparisons with honest errors."""
