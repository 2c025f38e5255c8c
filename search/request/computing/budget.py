"""What a study may take: hours, GPU hours, money; and what of it is used. Pure: no clock, no record."""

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from spaces.frozen import Frozen

HOUR_S = 3600
CONFIRM_SHARE = 1 / 3
UNITS = {"hours": "h", "gpu_hours": "GPU h", "cost": "of cost"}


class Spent(Frozen):
    """What was taken.

    Attributes:
        seconds: On the clock while runs were made, however many at a time.
        run_seconds: That each run had its worker, added up; those that failed or were stopped, too.
        gpu_seconds: The same, times the share of a GPU that a run has.
    """

    seconds: float = 0.0
    run_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            seconds=self.seconds + other.seconds,
            run_seconds=self.run_seconds + other.run_seconds,
            gpu_seconds=self.gpu_seconds + other.gpu_seconds,
        )


@dataclass(frozen=True)
class Limit:
    """One of a budget's limits, and how far it is used.

    Attributes:
        name: `hours`, `gpu_hours` or `cost`.
        allowed: In all.
        kept: Of it, for confirmations.
        searching: Used by the search and by comparisons.
        confirming: Used by confirmations.
    """

    name: str
    allowed: float
    kept: float
    searching: float
    confirming: float

    @property
    def used(self) -> float:
        """By all of the study."""
        return self.searching + self.confirming

    @property
    def left(self) -> float:
        """Of all that is allowed; below 0 if more was used."""
        return self.allowed - self.used

    @property
    def of_search(self) -> float:
        """What the search may use: all but what confirmations have used, or is kept for them."""
        return self.allowed - max(self.confirming, self.kept)

    @property
    def reached(self) -> bool:
        """Whether the search has used all that it may."""
        return self.searching >= self.of_search


class Budget(Frozen):
    """What a study may take; whichever limit is reached first ends its search.

    Attributes:
        hours: On the clock, while the search, a comparison or a confirmation runs; over all sessions.
        gpu_hours: Of all runs, each times its share of a GPU; failed, stopped and repeated ones count.
        cost: The same, times `price_per_gpu_hour`, in whatever currency that is.
        price_per_gpu_hour: Of one GPU.
        confirm_share: Of each limit, kept for confirmations: the search does not use it.
    """

    hours: float | None = Field(None, gt=0)
    gpu_hours: float | None = Field(None, gt=0)
    cost: float | None = Field(None, gt=0)
    price_per_gpu_hour: float | None = Field(None, gt=0)
    confirm_share: float = Field(CONFIRM_SHARE, ge=0, lt=1)

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.hours is None and self.gpu_hours is None and self.cost is None:
            raise ValueError("at least one of hours, gpu_hours and cost")
        if self.cost is not None and self.price_per_gpu_hour is None:
            raise ValueError(f"cost: needs price_per_gpu_hour, got {self.cost:g} without it")
        return self

    @property
    def of_gpus(self) -> list[str]:
        """The limits that only what runs on a GPU uses."""
        return [name for name in ("gpu_hours", "cost") if getattr(self, name) is not None]

    def measured(self, spent: Spent) -> dict[str, float]:
        """What was taken, in the unit of each limit that there is."""
        gpu_hours = spent.gpu_seconds / HOUR_S
        found = {"hours": spent.seconds / HOUR_S, "gpu_hours": gpu_hours}
        found["cost"] = gpu_hours * (self.price_per_gpu_hour or 0.0)
        return {name: value for name, value in found.items() if getattr(self, name) is not None}


@dataclass(frozen=True)
class Account:
    """A budget, and what of it is used.

    Attributes:
        budget: None for a study without one.
        searching: By the search and by comparisons.
        confirming: By confirmations.
    """

    budget: Budget | None
    searching: Spent
    confirming: Spent

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Each that there is."""
        if self.budget is None:
            return ()
        searching, confirming = map(self.budget.measured, (self.searching, self.confirming))
        found = []
        for name, used in searching.items():
            allowed: float = getattr(self.budget, name)
            kept = allowed * self.budget.confirm_share
            found.append(Limit(name, allowed, kept, used, confirming[name]))
        return tuple(found)

    @property
    def reached(self) -> Limit | None:
        """The limit that ends the search; None while it may go on."""
        return next((limit for limit in self.limits if limit.reached), None)

    @property
    def at_once(self) -> float:
        """How many runs were made at the same time, on average; at least 1."""
        all_of_it = self.searching + self.confirming
        return max(1.0, all_of_it.run_seconds / all_of_it.seconds) if all_of_it.seconds else 1.0

    @property
    def gpu(self) -> float:
        """Share of a GPU that runs had, on average; 0 before any."""
        all_of_it = self.searching + self.confirming
        return all_of_it.gpu_seconds / all_of_it.run_seconds if all_of_it.run_seconds else 0.0

    def lacking(self, need: Spent) -> str | None:
        """Why what is left does not cover `need`, in words; None if it does."""
        for limit in self.limits:
            assert self.budget is not None
            needed = self.budget.measured(need)[limit.name]
            if needed > limit.left:
                left = f"{amount(max(0.0, limit.left))} of {limit.allowed:g} {UNITS[limit.name]}"
                return f"about {amount(needed)} {UNITS[limit.name]}, and {left} are left"
        return None


def used_line(account: Account) -> str | None:
    """`budget: 2.7 of 4 h, 1.3 of 20 GPU h used; 33 % are kept for confirming`; None without a budget."""
    if account.budget is None:
        return None
    listed = ", ".join(f"{amount(one.used)} of {one.allowed:g} {UNITS[one.name]}" for one in account.limits)
    share = account.budget.confirm_share
    return f"budget: {listed} used" + (f"; {share:.0%} are kept for confirming" if share else "")


def ended_line(limit: Limit) -> str:
    """What is said of a search that a limit has ended."""
    kept = limit.allowed - limit.of_search
    why = f"; {amount(kept)} of {limit.allowed:g} {UNITS[limit.name]} are for confirming" if kept else ""
    return f"the search ended by its budget: {used_of_search(limit)}{why}"


def used_of_search(limit: Limit) -> str:
    """`1.2 of 2.7 h`."""
    return f"{amount(limit.searching)} of {amount(limit.of_search)} {UNITS[limit.name]}"


def amount(value: float) -> str:
    """Two digits that count, or more: `0.013`, `0.42`, `1,250.0`."""
    if value >= 10:
        return f"{value:,.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
