"""A YOLO detector under a strategy."""
