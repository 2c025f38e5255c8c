"""A dashboard in this process, for tests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.export.page.serve import Dashboard

TOKEN = "as-long-as-it-is-secret"


@contextmanager
def served(path: Path, gather=lambda folder: {}) -> Iterator[str]:
    """Its address, without the token."""
    with Dashboard(path, TOKEN, gather, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.address.partition("?")[0]
        finally:
            server.shutdown()
            thread.join()
