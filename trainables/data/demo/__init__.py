"""Built-in data: `digits` is real, `cytology` is drawn."""
