"""rarecall from Python: what its commands do, and studies as pandas data frames.

    import rarecall

    study = rarecall.search("examples/digits.yaml")
    study.front()

Nothing is printed. Whatever a person can mend is raised as `RarecallError`, with a hint.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rarecall.running import compare, confirm, search
    from rarecall.study import Study, open
    from spaces.errors import Interrupted, RarecallError, RunError, UsageError

__all__ = [
    "Interrupted",
    "RarecallError",
    "RunError",
    "Study",
    "UsageError",
    "compare",
    "confirm",
    "open",
    "search",
]


def __getattr__(name: str) -> Any:
    """Load a name when it is used first: the command checks whose packages it gets before any is loaded."""
    if name not in __all__:
        raise AttributeError(f"module 'rarecall' has no attribute '{name}'")
    from rarecall import running, study  # noqa: PLC0415
    from spaces import errors  # noqa: PLC0415

    home = next(module for module in (running, study, errors) if name in vars(module))
    return vars(home)[name]
