from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchvision.ops import sigmoid_focal_loss

from spaces.strategy import NAMED, Strategy
from trainables.classifier import trainer as classifier
from trainables.contract.trial import (
    DataSpec,
    Outcome,
    TrainSpec,
    TrialFailure,
    TrialFolder,
    TrialReport,
    TrialSpec,
)
from trainables.strategy.loss import (
    FocalCrossEntropy,
    class_alpha,
    effective_numbers,
    effective_prior,
    logit_adjustment,
    mixed_counts,
)
from trainables.worker.run import run_trial


@pytest.mark.parametrize(
    ("counts", "power", "cap", "ratios"),
    [
        pytest.param([100, 10, 1], 0.0, 30.0, [1, 1, 1], id="power 0 is off"),
        pytest.param([100, 10, 1], 1.0, 1000.0, [1, 10, 100], id="power 1 is inverse frequency"),
        pytest.param([100, 25], 0.5, 30.0, [1, 2], id="power one half is the root"),
        pytest.param([100, 10, 1], 1.0, 30.0, [1, 10, 30], id="the cap limits the ratio"),
        pytest.param([100, 0], 1.0, 1000.0, [1, 100], id="a class without objects counts as one object"),
    ],
)
def test_class_alpha_by_hand(counts: list[int], power: float, cap: float, ratios: list[float]) -> None:
    alpha = class_alpha(counts, power=power, cap=cap)
    np.testing.assert_allclose(alpha / alpha[0], ratios)
    assert alpha.mean() == pytest.approx(1)


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=8), st.floats(0, 1), st.floats(1, 100))
def test_a_rarer_class_never_weighs_less(counts: list[int], power: float, cap: float) -> None:
    alpha = class_alpha(counts, power=power, cap=cap)
    assert (np.diff(alpha[np.argsort(counts, kind="stable")]) <= 1e-12).all()
    assert alpha.max() / alpha.min() <= cap * (1 + 1e-9)


@pytest.mark.parametrize(
    ("strength", "beta"),
    [
        pytest.param(0.0, 0.0, id="strength 0 is the paper's beta 0"),
        pytest.param(0.25, 0.9, id="of 10,000 objects the fourth root is N = 10"),
        pytest.param(0.75, 0.999, id="N = 1,000"),
        pytest.param(1.0, 0.9999, id="N = the largest count"),
    ],
)
def test_class_balanced_weights_are_the_papers(strength: float, beta: float) -> None:
    counts = [10_000, 500, 20, 1]
    paper = np.array([(1 - beta) / (1 - beta**n) for n in counts])
    np.testing.assert_allclose(effective_numbers(counts, strength=strength), 1 / paper)
    alpha = class_alpha(counts, power=0, cap=1e9, balance=strength)
    np.testing.assert_allclose(alpha, paper / paper.mean())


def test_class_balanced_weights_at_strength_one_are_nearly_the_inverse_of_the_counts() -> None:
    alpha = class_alpha([10_000, 100, 10], power=0, cap=1e9, balance=1)
    assert alpha[2] / alpha[1] == pytest.approx(10, rel=0.01)
    assert alpha[1] / alpha[0] == pytest.approx(100 * (1 - np.exp(-1)), rel=0.01)


@given(
    st.lists(st.integers(0, 10_000), min_size=2, max_size=8),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(1, 50),
)
def test_both_kinds_of_weight_together_still_favour_the_rarer_and_keep_to_the_cap(
    counts: list[int], power: float, balance: float, cap: float
) -> None:
    alpha = class_alpha(counts, power=power, cap=cap, balance=balance)
    assert (np.diff(alpha[np.argsort(counts, kind="stable")]) <= 1e-9).all()
    assert alpha.max() / alpha.min() <= cap * (1 + 1e-9)
    assert alpha.mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("share", "counts"),
    [
        pytest.param(0.0, [100, 4, 1], id="0 is the training set"),
        pytest.param(1.0, [25, 16, 1], id="1 is what is drawn"),
        pytest.param(0.5, [50, 8, 1], id="one half is the geometric mean"),
    ],
)
def test_mixed_counts_by_hand(share: float, counts: list[float]) -> None:
    np.testing.assert_allclose(mixed_counts([100, 4, 0], [25, 16, 0.2], share=share), counts)


COUNTS = st.lists(st.tuples(st.integers(1, 1000), st.floats(1, 1000)), min_size=2, max_size=6)


@given(COUNTS)
def test_alpha_from_what_is_drawn_makes_the_effective_prior_uniform(pairs: list[tuple[int, float]]) -> None:
    train, sampled = zip(*pairs, strict=True)
    alpha = class_alpha(mixed_counts(train, sampled, share=1), power=1, cap=1e6)
    np.testing.assert_allclose(effective_prior(alpha, sampled), 1 / len(pairs))


@given(COUNTS)
def test_adjusting_by_what_is_drawn_leaves_a_uniform_prior_and_by_half_its_root(
    pairs: list[tuple[int, float]],
) -> None:
    train, sampled = zip(*pairs, strict=True)
    counts, ones = mixed_counts(train, sampled, share=1), np.ones(len(pairs))
    uniform = effective_prior(ones, sampled, logit_adjustment(counts, tau=1))
    np.testing.assert_allclose(uniform, 1 / len(pairs))
    root = effective_prior(ones, sampled, logit_adjustment(counts, tau=0.5))
    np.testing.assert_allclose(root, np.sqrt(sampled) / np.sqrt(sampled).sum())


def test_alpha_from_the_training_set_over_a_balanced_sampler_turns_the_prior_round() -> None:
    # 90 common and 10 rare images, drawn equally often: the rare class then counts for nine tenths.
    train, sampled = [90, 10], [50, 50]
    alpha = class_alpha(mixed_counts(train, sampled, share=0), power=1, cap=30)
    np.testing.assert_allclose(effective_prior(alpha, sampled), [0.1, 0.9])
    np.testing.assert_allclose(effective_prior(np.ones(2), sampled), [0.5, 0.5])


def batch(n_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(64, n_classes, generator=generator)
    return logits, torch.randint(n_classes, (64,), generator=generator)


def test_gamma_zero_and_alpha_one_is_plain_cross_entropy() -> None:
    logits, labels = batch(5)
    loss = FocalCrossEntropy(np.ones(5), 0.0)(logits, labels)
    torch.testing.assert_close(loss, cross_entropy(logits, labels))


def test_alpha_weighs_each_image_by_its_class() -> None:
    logits, labels = batch(3)
    alpha = torch.tensor([0.2, 0.8, 2.0])
    loss = FocalCrossEntropy(alpha.numpy(), 0.0)(logits, labels)
    each = cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(loss, (alpha[labels] * each).mean())


def two_class(criterion: FocalCrossEntropy, score: Tensor, labels: Tensor) -> Tensor:
    """The loss of scores of the second of two classes: a softmax over (0, x) is the sigmoid of x."""
    loss: Tensor = criterion(torch.stack([torch.zeros_like(score), score], 1), labels)
    return loss


def slope(loss: Tensor, score: Tensor) -> Tensor:
    return torch.autograd.grad(loss, score)[0]


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_with_two_classes_it_is_torchvisions_focal_loss_at_the_size_of_cross_entropy(gamma: float) -> None:
    score, labels = batch(2)[0][:, 0].requires_grad_(), batch(2)[1]
    criterion = FocalCrossEntropy(np.ones(2), gamma)
    scales = []
    for sureness in (1, 2):
        loss = two_class(criterion, sureness * score, labels)
        theirs = sigmoid_focal_loss(sureness * score, labels.float(), alpha=-1, gamma=gamma, reduction="mean")
        plain = binary_cross_entropy_with_logits(sureness * score, labels.float())
        scales.append(float(plain.detach() / theirs.detach()))
        torch.testing.assert_close(loss, plain)
        torch.testing.assert_close(slope(loss, score), scales[-1] * slope(theirs, score))
    assert criterion.focal_scale.stored() == pytest.approx(sorted(scales))


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_smoothed_labels_without_focus_are_torchs(smoothing: float) -> None:
    logits, labels = batch(5)
    loss = FocalCrossEntropy(np.ones(5), 0.0, smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(loss, torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_smoothed_labels_with_focus_are_torchvisions_loss_expected_over_redrawn_labels(gamma: float) -> None:
    score, labels = batch(2)[0][:, 0].requires_grad_(), batch(2)[1]
    alpha = np.array([0.5, 1.5])
    weights = torch.tensor(alpha, dtype=torch.float32)[labels]  # the true class's, also where it is redrawn

    def theirs(exponent: float) -> Tensor:
        right, wrong = (
            sigmoid_focal_loss(score, target.float(), alpha=-1, gamma=exponent)
            for target in (labels, 1 - labels)
        )
        return (weights * (0.9 * right + 0.1 * wrong)).mean()

    loss = two_class(FocalCrossEntropy(alpha, gamma, smoothing=0.2), score, labels)
    torch.testing.assert_close(loss, theirs(0.0))
    scale = theirs(0.0).detach() / theirs(gamma).detach()
    torch.testing.assert_close(slope(loss, score), scale * slope(theirs(gamma), score))


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_smoothed_labels_want_no_certainty_even_where_the_focal_loss_looks_away(gamma: float) -> None:
    criterion = FocalCrossEntropy(np.ones(2), gamma, smoothing=0.1)
    losses = [criterion(torch.tensor([[margin, 0.0]]), torch.tensor([0])) for margin in (2.0, 10.0)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_adjusted_logits_are_equation_10_by_hand(tau: float) -> None:
    logits, labels = batch(3)
    loss = FocalCrossEntropy(np.ones(3), 0.0, logit_adjustment([700, 280, 20], tau=tau))(logits, labels)
    # -log of exp(f_y + tau log pi_y) / sum over c of exp(f_c + tau log pi_c)
    scaled = logits.exp() * torch.tensor([0.70, 0.28, 0.02]) ** tau
    by_hand = -(scaled[torch.arange(len(labels)), labels] / scaled.sum(dim=1)).log().mean()
    torch.testing.assert_close(loss, by_hand)


def test_adjustment_by_the_prior_is_balanced_softmax() -> None:
    logits, labels = batch(3)
    counts = [5000, 90, 1]
    loss = FocalCrossEntropy(np.ones(3), 0.0, logit_adjustment(counts, tau=1))(logits, labels)
    # Ren et al. 2020, eq. 3: the counts themselves weigh the exponentials.
    balanced = cross_entropy(logits + torch.tensor(counts, dtype=torch.float32).log(), labels)
    torch.testing.assert_close(loss, balanced, rtol=1e-4, atol=1e-5)


def test_a_class_without_images_is_adjusted_as_if_it_had_one() -> None:
    np.testing.assert_allclose(logit_adjustment([99, 0], tau=2), 2 * np.log([0.99, 0.01]))
    assert not logit_adjustment([99, 0], tau=0).any()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("tau", [0.0, 2.0])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_gradient_stays_finite_when_an_image_is_certain(gamma: float, tau: float, smoothing: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0], [1e4, -1e4]], requires_grad=True)
    criterion = FocalCrossEntropy([0.1, 1.9], gamma, logit_adjustment([10**6, 1], tau=tau), smoothing)
    criterion(logits, torch.tensor([0, 0, 1])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


RARE = ("1", "8", "9")


def digits_run(folder: Path, knobs: dict[str, float]) -> Outcome:
    spec = TrialSpec(
        task="classification",
        strategy=Strategy.from_knobs(knobs),
        data=DataSpec(source="demo:digits", minority=RARE),
        train=TrainSpec(model="small_cnn", imgsz=8, steps=4, eval_every=4),
        seed=0,
    )
    folder.mkdir()
    return run_trial(spec, TrialFolder(folder), lambda _: None)


def applied(folder: Path, knobs: dict[str, float]) -> dict[str, Any]:
    report = digits_run(folder, knobs)
    assert isinstance(report, TrialReport), report
    return report.applied


def test_a_classifier_that_is_corrected_twice_says_so(tmp_path: Path) -> None:
    knobs = {"sampler_power": 1.0, "alpha_power": 1.0}
    plain, twice, once = (
        applied(tmp_path / name, changed)
        for name, changed in {"plain": {}, "twice": knobs, "once": knobs | {"alpha_prior": 1.0}}.items()
    )
    images = plain["train_images"]
    total = sum(images.values())
    assert plain["effective_prior"] == pytest.approx({name: n / total for name, n in images.items()})
    assert plain["minority_share"] == pytest.approx(24 / total)
    # Power 1 draws all ten digits equally often.
    assert twice["minority_share"] == once["minority_share"] == pytest.approx(0.3)
    assert once["effective_prior"] == pytest.approx(dict.fromkeys(images, 0.1), rel=1e-5)
    inverse = {name: 1 / n for name, n in images.items()}
    turned = {name: value / sum(inverse.values()) for name, value in inverse.items()}
    assert twice["effective_prior"] == pytest.approx(turned, rel=1e-5)
    assert sum(turned[name] for name in RARE) > 0.8


def test_balanced_softmax_and_a_sampler_that_hands_over_correct_once(tmp_path: Path) -> None:
    for name in ("balanced_softmax", "deferred"):
        prior = applied(tmp_path / name, NAMED[name].changed())["effective_prior"]
        assert prior == pytest.approx(dict.fromkeys(prior, 0.1), rel=1e-4)


def test_without_a_sampler_balanced_softmax_is_logit_adjustment(tmp_path: Path) -> None:
    train, sampled = (
        applied(tmp_path / str(prior), {"logit_tau": 1.0, "alpha_prior": prior})["effective_prior"]
        for prior in (0.0, 1.0)
    )
    assert train == sampled == pytest.approx(dict.fromkeys(train, 0.1), rel=1e-5)


def test_what_undersampling_left_is_no_part_of_the_training_sets_prior(tmp_path: Path) -> None:
    whole, less = (
        applied(tmp_path / str(retention), {"retention": retention, "alpha_power": 0.5})
        for retention in (1.0, 0.5)
    )
    assert less["alpha"] == whole["alpha"]
    assert less["effective_prior"]["8"] > 1.5 * whole["effective_prior"]["8"]


@pytest.mark.parametrize(
    ("knobs", "broken"),
    [
        pytest.param({"repeat_threshold": 0.5}, "repeat_threshold: asked 0.5", id="repeat factors"),
        pytest.param(
            {"sampler_power": 1.0, "alpha_power": 1.0, "alpha_prior": 1.0}, "alpha_prior: asked 1", id="prior"
        ),
        pytest.param(
            {"sampler_power": 0.5, "logit_tau": 1.0, "alpha_prior": 1.0},
            "logit_tau: asked 1",
            id="adjustment",
        ),
        pytest.param({"sampler_power": 1.0, "defer": 0.5}, "defer: asked 0.5", id="the schedule"),
    ],
)
def test_a_classifier_that_ignored_the_knob_fails_by_its_receipt(
    knobs: dict[str, float], broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = classifier._Run.__init__

    def spoiled(run: classifier._Run, asked: TrialSpec) -> None:
        built(run, asked)
        object.__setattr__(run.strategy.draws[0], "weights", None)

    monkeypatch.setattr(classifier._Run, "__init__", spoiled)
    outcome = digits_run(tmp_path / "run", knobs)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    assert broken in outcome.reason
