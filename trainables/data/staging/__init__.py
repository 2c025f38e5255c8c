"""Data on a storage, brought into this node's cache."""
