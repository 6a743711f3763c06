"""Statistics on arrays: standard errors, paired comparisons."""
