"""What can be known, and mended, before anything is spent: `check`, `strategies`, `doctor`."""
