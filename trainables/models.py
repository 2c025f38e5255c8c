"""Which classifiers there are, by name. No torch: a study file is checked with it before anything starts."""

from spaces.errors import UsageError

CLASSIFIERS = ("small_cnn",)


def check_classifier(name: str) -> None:
    """Refuse a model name that `train_classifier` could not build.

    Raises:
        UsageError: It is none of `CLASSIFIERS`.
    """
    if name not in CLASSIFIERS:
        raise UsageError(
            f"train.model: '{name}' is not yet in this version", f"classifiers: {', '.join(CLASSIFIERS)}"
        )
