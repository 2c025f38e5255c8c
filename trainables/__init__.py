"""Make a strategy happen on one worker. Only `tune_adapter` knows of Ray, nothing here of Optuna."""
