"""Where the command starts: it checks whose packages it gets, for others call theirs `spaces`, too."""

import gc
import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

WINGS = ("search", "spaces", "trainables")


def main() -> int:
    """Run the command; returns its exit code."""
    foreign = foreign_package()
    if foreign is not None:
        print(f"rarecall: {foreign}", file=sys.stderr)
        return 2
    # They would be another's.
    from search.cli.unexpected import report  # noqa: PLC0415

    try:
        gc.disable()  # what an import makes stays: looking through it took a fifth of the imports' time
        from search.cli.main import main as run  # noqa: PLC0415

        gc.freeze()
        gc.enable()
    except Exception as error:  # e.g. a system library that is not there
        print(report(error, None), file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    code = run()
    if any(thread.name == "storage" for thread in threading.enumerate()):
        # It still waits for one that has not answered, and pyarrow, as the process ends, would wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def foreign_package() -> str | None:
    """A sentence on the first package that shadows one of ours, or None."""
    home = Path(__file__).resolve().parents[1]
    for name in WINGS:
        spec = find_spec(name)
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        place = Path(places[0]).resolve() if places else Path(str(spec.origin if spec else "nowhere"))
        if place != home / name:
            return f"'{name}' is another project's here ({place}): give rarecall an environment of its own"
    return None
