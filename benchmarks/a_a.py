"""The baseline against itself, end to end: how often is nothing taken for a gain?

    python benchmarks/a_a.py examples/digits.yaml --confirmations 40

Every confirmation is a real one: fresh seeds for both arms, both looks, the test split, the study's guards,
and a gain above 0 asked for. The runs of all confirmations share one queue, so that workers start only once.
"""

import argparse
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from search.cluster.launch import connected, run_connected
from search.judging.confirmation import ConfirmPlan, Look, PlannedCandidate, requirements, store
from search.judging.judge import judge
from search.judging.measured import Measurer
from search.pipeline.opening import data_of
from search.record.experiments import CONFIRMATIONS
from search.record.folder import StudyFolder
from search.record.stored import packed
from search.request.computing.resources import Resources
from search.request.config import ConfirmConfig
from search.request.reading import load_config
from search.work.experiment_queue import ExperimentQueue
from search.work.protocol import Answer, Job
from trainables.contract.trial import EpochMetrics, Outcome

ITSELF = "the baseline again"


class Together:
    """Several experiments as one queue; implements `search.work.protocol.Work`."""

    def __init__(self, works: Sequence[ExperimentQueue]) -> None:
        self._left = deque(works)
        self._by_key: dict[str, ExperimentQueue] = {}

    def take(self) -> Job | None:
        for work in self._left:
            job = work.take()
            if job is not None:
                self._by_key[job.spec.key] = work
                return job
        return None

    def exhausted(self) -> bool:
        return all(work.exhausted() for work in self._left)

    def over(self) -> bool:
        return False

    def started(self, key: str, resources: Resources) -> None:
        self._by_key[key].started(key, resources)

    def lost(self, key: str) -> None:
        self._by_key[key].lost(key)

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        return self._by_key[key].epoch(key, measured)

    def finish(self, key: str, outcome: Outcome) -> None:
        self._by_key[key].finish(key, outcome)

    def stopped(self, key: str) -> None:
        self._by_key[key].stopped(key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--confirmations", type=int, default=40)
    args = parser.parse_args()
    settings = ConfirmConfig(finalists=0, min_gain=0.0)
    config = load_config(args.study).model_copy(update={"confirm": settings})
    data, summary = data_of(config, args.study.name)
    plan = ConfirmPlan(
        settings=settings,
        candidates=(PlannedCandidate(name=ITSELF, strategy=config.baseline_strategy),),
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, connected(None, config.resources):
        folder = StudyFolder(Path(scratch) / config.name)
        study = folder.create(config, summary.fingerprint, data.minority)
        measurer = Measurer(folder.files, config.task, [one.metric for one in requirements(config)])
        names = [f"{CONFIRMATIONS}{k + 1}" for k in range(args.confirmations)]
        looks: dict[str, Look] = {}
        for number in range(1, plan.looks.looks + 1):
            still_open = [name for name in names if name not in looks or looks[name].open_names]
            works = {}
            for name in still_open:
                record = study.begin(name)
                if record.plan is None:
                    record.set_plan(packed(plan))
                wanted = plan.wanted(name, config, data, number, [ITSELF])
                works[name] = ExperimentQueue(
                    name, record, folder.files, wanted, lambda snapshot: None, time.monotonic
                )
            run_connected(Together(list(works.values())), folder.files, config.resources)
            for name, work in works.items():
                strategies = {arm: config.baseline_strategy for arm in ("baseline", ITSELF)}
                arms = {
                    arm: measurer.measure(arm, of, work.outcomes_of(arm)) for arm, of in strategies.items()
                }
                looks[name] = judge(config, data.minority, plan, number, arms, looks.get(name))
                store(study.experiment(name), looks[name])
            shown = Counter(look.results[0].verdict.outcome for look in looks.values())
            print(f"after look {number}: {dict(shown)}, {time.perf_counter() - started:.0f} s", flush=True)
        study.flush()
    accepted = sum(bool(look.accepted) for look in looks.values())
    point_rule = sum(look.results[0].verdict.point_rule for look in looks.values())
    limit = int(stats.binom.ppf(0.99, args.confirmations, settings.alpha))
    print(
        f"accepted {accepted} of {args.confirmations}; at most {limit} with probability .99 if alpha is .05"
    )
    print(f"the point rule would have accepted {point_rule}")


if __name__ == "__main__":
    main()
