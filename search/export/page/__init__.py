"""The page that shows a study: what stands on it, and how it is written."""
