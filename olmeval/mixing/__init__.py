"""Data mixing: domains, swarms of small runs, laws from mixture to loss, and the best mixture."""
