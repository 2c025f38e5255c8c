"""Predictions and truth to metrics; pure NumPy."""
