"""The Ray edge: how work reaches workers and comes back."""
