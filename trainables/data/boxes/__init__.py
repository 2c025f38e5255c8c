"""A detector's data: images with boxes."""
