"""Model-ladder laws and predictions."""
