"""Whole images: cut into tiles, for a study or by hand, and looked at by a trained model."""
