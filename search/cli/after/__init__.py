"""What becomes of a study that has been searched: `report`, `dashboard`, `export`, `track`."""
