"""How many runs a study is going to make, how long each takes, how many at once. Trains nothing."""

from dataclasses import dataclass

from search.judging.confirmation import ConfirmPlan, PlannedCandidate
from search.pipeline.planning.known import Known, occupied
from search.request.computing.budget import Account, Spent
from search.request.config import StudyConfig
from spaces.strategy import PLAIN


@dataclass(frozen=True)
class Plan:
    """What a study is going to take, if all that it asks for is run.

    Attributes:
        baseline: Runs of the baseline.
        trials: Runs of the search.
        confirming: Runs of a confirmation with all its finalists, at its first look.
        at_most: Runs of it with its second look.
        known: How long a run takes; None if nothing said so yet.
        at_once: Runs at a time.
        why: What decides that.
        gpu: Share of a GPU that a run has.
        price: Of a GPU's hour; None without.
        account: The budget, nothing of it used.
    """

    baseline: int
    trials: int
    confirming: int
    at_most: int
    known: Known | None
    at_once: int
    why: str
    gpu: float
    price: float | None
    account: Account

    def taking(self, runs: int) -> Spent:
        """What so many runs take."""
        assert self.known is not None
        return need(runs * self.known.run_s, self.gpu, self.at_once)

    def fitting(self) -> int | None:
        """How many trials the budget has room for, of those that are asked for; None if that is not known."""
        one, unknown = self.taking(1), self.unknown()
        found = [self.trials]
        for limit in self.account.limits:
            assert self.account.budget is not None
            if limit.name not in unknown:
                each = self.account.budget.measured(one)[limit.name]
                found.append(int(limit.of_search / each) - self.baseline)
        return max(0, min(found)) if len(found) > 1 or not unknown else None

    def unknown(self) -> list[str]:
        """Limits of the budget that the known runs say nothing of: they had no GPU."""
        budget = self.account.budget
        return [] if budget is None or self.gpu else budget.of_gpus


def need(run_seconds: float, gpu: float, at_once: float) -> Spent:
    """What runs take, together and so many at a time."""
    return Spent(
        seconds=run_seconds / at_once, run_seconds=run_seconds, gpu_seconds=min(1.0, gpu) * run_seconds
    )


def plan(config: StudyConfig, known: Known | None, room: tuple[int, str]) -> Plan:
    """The plan of a study that may not exist yet.

    Args:
        config: Of the study.
        known: How long its runs take, if that is known.
        room: For how many at a time there is some, and what decides that.
    """
    first, second = confirmation_runs(config)
    budget = config.budget
    return Plan(
        baseline=config.baseline.seeds,
        trials=config.search.trials,
        confirming=first,
        at_most=second,
        known=known,
        at_once=max(1, room[0]),
        why=room[1] if room[0] else f"if there were room: {room[1]}",
        gpu=min(1.0, occupied(config, known).gpu),
        price=None if budget is None else budget.price_per_gpu_hour,
        account=Account(budget, Spent(), Spent()),
    )


def confirmation_runs(config: StudyConfig) -> tuple[int, int]:
    """Of a confirmation of all that the study file asks for: at its first look, and with the second."""
    asked = config.confirm
    names = [f"trial {number}" for number in range(asked.finalists)] + list(asked.strategies)
    candidates = tuple(PlannedCandidate(name=name, strategy=PLAIN) for name in names)
    full = ConfirmPlan(settings=asked, candidates=candidates)
    looks = [sum(full.seeds_per_arm(look + 1, names).values()) for look in range(full.looks.looks)]
    return looks[0], looks[-1]
