"""Make a strategy happen on one worker. Knows nothing of Ray's scheduling (but `tune_adapter`) nor of Optuna."""
