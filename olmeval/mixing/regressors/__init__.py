"""Families of functions from mixtures to losses, behind one fit, predict, interval contract."""
