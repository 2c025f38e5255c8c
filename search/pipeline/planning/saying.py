"""A plan, for a person and for a program."""

from typing import Any

from search.pipeline.planning.plan import Plan
from search.request.computing.budget import HOUR_S, UNITS, Spent, amount


def plan_lines(planned: Plan) -> list[str]:
    """What a person reads."""
    most = f", with a second look up to {planned.at_most}" if planned.at_most > planned.confirming else ""
    lines = [
        f"plan: {planned.baseline} + {planned.trials} + {planned.confirming} runs (baseline, trials, "
        f"confirmation{most}); {planned.at_once} at once: {planned.why}"
    ]
    if planned.known is None:
        return [
            *lines,
            "how long a run takes is not known yet: no study like it in the folder of studies has finished "
            "one; `rarecall check --probe` makes some short ones and tells",
        ]
    search = planned.taking(planned.baseline + planned.trials)
    confirming = planned.taking(planned.confirming)
    lines.append(
        f"a run takes about {amount(planned.known.run_s / 60)} min (by {planned.known.by}): the search "
        f"{_in_words(search, planned)}, the confirmation {_in_words(confirming, planned)}"
    )
    return lines + _budget_lines(planned, confirming)


def _in_words(spent: Spent, planned: Plan) -> str:
    """`1.2 h, 3.4 GPU h, 8.5 of cost`."""
    gpu_hours = spent.gpu_seconds / HOUR_S
    said = [f"{amount(spent.seconds / HOUR_S)} h"]
    said += [f"{amount(gpu_hours)} GPU h"] if planned.gpu else []
    said += [] if planned.price is None else [f"{amount(gpu_hours * planned.price)} of cost"]
    return ", ".join(said)


def _budget_lines(planned: Plan, confirming: Spent) -> list[str]:
    """Whether the budget covers it."""
    budget = planned.account.budget
    if budget is None:
        return []
    fit, unknown = planned.fitting(), planned.unknown()
    listed = ", ".join(f"{one.allowed:g} {UNITS[one.name]}" for one in planned.account.limits)
    fits = f"{'all' if fit == planned.trials else f'about {fit} of'} {planned.trials} trials fit"
    lines = [
        f"budget: {listed}, of which {budget.confirm_share:.0%} are kept for confirming; "
        f"{'how many trials fit is not known' if fit is None else fits}"
    ]
    if unknown:
        lines.append(
            f"warning: the run that is known had no GPU, so it says nothing of {' and '.join(unknown)}: "
            "`rarecall check --probe` where there is one"
        )
    needed = budget.measured(confirming)
    for limit in planned.account.limits:
        if needed[limit.name] > limit.kept:
            lines.append(
                f"warning: {amount(limit.kept)} {UNITS[limit.name]} are kept for confirming, and it should "
                f"take {amount(needed[limit.name])}: raise budget.confirm_share, or ask for fewer seeds"
            )
    return lines


def plan_json(planned: Plan) -> dict[str, Any]:
    """The same as plain values for `--json`; what is not known is null."""
    counts = {name: getattr(planned, name) for name in ("baseline", "trials", "confirming", "at_most")}
    found: dict[str, Any] = {"runs": counts, "at_once": planned.at_once, "why": planned.why}
    parts = {"search": planned.baseline + planned.trials, "confirming": planned.confirming}
    for name, runs in parts.items():
        taken = None if planned.known is None else planned.taking(runs)
        found[name] = {
            "hours": None if taken is None else taken.seconds / HOUR_S,
            "gpu_hours": None if taken is None else taken.gpu_seconds / HOUR_S,
        }
        if planned.price is not None:
            cost = None if taken is None else taken.gpu_seconds / HOUR_S * planned.price
            found[name]["cost"] = cost
    known = planned.known
    return found | {
        "run_s": None if known is None else known.run_s,
        "known_from": None if known is None else known.by,
        "fitting": None if known is None else planned.fitting(),
    }
