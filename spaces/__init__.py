"""What may vary between two trials. Standard library and pydantic only; an Optuna trial is an argument."""
