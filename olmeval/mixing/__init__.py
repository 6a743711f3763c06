"""Data mixing."""
