"""A classifier's data: images with one label each."""
