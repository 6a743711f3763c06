"""A local page over run folders, down to the single prompt and its tokens."""
