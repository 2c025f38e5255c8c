"""Studies on a storage that is no folder: S3 and what pyarrow knows beside it. Knows files, and no study."""
