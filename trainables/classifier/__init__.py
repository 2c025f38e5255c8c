"""An image classifier under a strategy."""
