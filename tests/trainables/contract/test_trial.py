"""A run's key: what it depends on, and what it must never depend on."""

from typing import Annotated

import pytest

from spaces.frozen import LATER, Frozen
from spaces.strategy import Strategy
from trainables.contract.trial import DataSpec, TrainSpec, TrialSpec

SPEC = TrialSpec(
    task="toy",
    strategy=Strategy.from_knobs({"sampler_power": 0.5}),
    data=DataSpec(source="demo:toy", minority=("rare",)),
    train=TrainSpec(model="toy", steps=20, eval_every=10),
    seed=3,
)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        pytest.param({}, "fccd2553703df0bb", id="as it is"),
        pytest.param({"seed": 4}, "954779223e1bf6bd", id="another seed"),
        pytest.param({"split": "test"}, "6f3001d2083682ce", id="another split"),
        pytest.param({"strategy": Strategy()}, "8430fe07a6ad2cfe", id="another strategy"),
    ],
)
def test_keys_are_those_of_0_1_0(changes: dict[str, object], key: str) -> None:
    assert SPEC.model_copy(update=changes).key == key


class Old(Frozen):
    gamma: float = 2.0


class Inner(Old):
    margin: Annotated[float, LATER] = 0.5


class New(Frozen):
    loss: Inner = Inner()
    depth: Annotated[int, LATER] = 1


def test_a_field_that_came_later_is_left_out_at_its_default_alone() -> None:
    assert New().keyed() == {"loss": Old().keyed()} == {"loss": {"gamma": 2.0}}
    assert New(depth=2).keyed() == {"loss": {"gamma": 2.0}, "depth": 2}
    assert New(loss=Inner(margin=0.1)).keyed() == {"loss": {"gamma": 2.0, "margin": 0.1}}
