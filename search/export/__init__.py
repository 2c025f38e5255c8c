"""What leaves the house: bundles that need no rarecall to be read."""
