"""Copies of whole training images, augmented before they are cut."""
