"""Decide: ask, launch, tell, compare, show. Ray only in `cluster`, Optuna only in `study`."""
