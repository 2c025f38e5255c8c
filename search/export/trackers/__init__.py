"""A study in the books of MLflow, W&B or TensorBoard: what they are told, and how each is told it."""
