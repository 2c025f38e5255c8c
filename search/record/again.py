"""Which failed runs another attempt may help, and under what they failed. Pure."""

from search.request.config import Resources
from trainables.contract.trial import Outcome, TrialFailure


def stamped(outcome: Outcome, resources: Resources) -> Outcome:
    """An outcome as it is stored: a run that ran out of memory with what the study gave to it."""
    if isinstance(outcome, TrialFailure) and outcome.kind == "memory" and outcome.resources is None:
        return outcome.model_copy(update={"resources": resources.model_dump()})
    return outcome


def worth_again(failure: TrialFailure, resources: Resources) -> bool:
    """Whether a later process should run it once more: its node was lost, or there is other memory now.

    Args:
        failure: As it was stored.
        resources: What the study gives to a run now.
    """
    if failure.kind == "memory":
        return failure.resources != resources.model_dump()  # 0.1.0 did not say: it gets another attempt
    return failure.kind == "lost" and failure.retry
