"""Pictures: what one shows, and the drawing of it in another file, so that a test can look at the former."""
