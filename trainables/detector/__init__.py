"""The only importer of Ultralytics."""
