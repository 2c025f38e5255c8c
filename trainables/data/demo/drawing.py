"""What is drawn for a demo: once per node, whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from trainables.contract.node import cache_folder


def drawn_once(name: str, draw: Callable[[Path], None]) -> Path:
    """A folder of this node's cache folder, drawn unless it is there.

    It is drawn beside its place and renamed: of two processes that draw at once one wins, and nobody sees
    half a data set.

    Args:
        name: Of the folder; with a version, so that whatever changes the pixels changes it.
        draw: Fills a folder.
    """
    folder = cache_folder() / name
    if not folder.exists():
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        draw(partial)
        try:
            os.rename(partial, folder)
        except OSError:
            if not folder.exists():
                raise
            shutil.rmtree(partial)
    return folder
