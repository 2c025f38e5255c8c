"""A trained detector on a split, on its whole images, and on any image."""
