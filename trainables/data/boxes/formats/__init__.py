"""The files that boxes come in."""
