"""What may be set after training, from the validation split alone."""
