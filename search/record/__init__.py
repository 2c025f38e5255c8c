"""What is remembered: the study's database and folder. The one place that knows Optuna."""
