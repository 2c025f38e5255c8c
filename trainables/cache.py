"""Where a node keeps what can be made again: drawn demo data, third-party settings. Never results."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$RARECALL_CACHE`, else `rarecall` in the XDG cache folder; created if absent."""
    chosen = os.environ.get("RARECALL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(chosen) if chosen else Path(base) / "rarecall"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
