"""The errors a person can meet. Each says what is wrong, where, and what to do about it.

RarecallError
├── UsageError        the person's: a study file, a path, an argument  (exit code 2)
├── RunError          the run's: a cluster, a worker, a disk           (exit code 3)
└── Interrupted       the person stopped it; the hint is how to go on  (exit code 130)
"""


class RarecallError(Exception):
    """Base of all errors that reach a person.

    Args:
        message: What is wrong, what was got, and where (file, key).
        hint: What to do about it; empty if there is nothing to add.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type["RarecallError"], tuple[str, str]]:
        return (type(self), (self.message, self.hint))


class UsageError(RarecallError):
    """What the person asked for cannot be done as asked."""


class RunError(RarecallError):
    """The request was fine; carrying it out failed."""


class Interrupted(RarecallError):
    """The person stopped it; it can go on later, by the command that is the hint."""
