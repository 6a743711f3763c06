"""Scorers: tokenization, the planner, and the engines that run a plan."""
