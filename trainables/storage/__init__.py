"""Folders on S3 and the like: their addresses, and what is read there."""
