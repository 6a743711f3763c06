"""Plan, infer, score: three phases with files between them."""
