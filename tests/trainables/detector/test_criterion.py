import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import set_up, tiny_spec
from torchvision.ops import sigmoid_focal_loss
from trials import outcome_of, report_of
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss

from spaces.loss import Loss
from trainables.contract.trial import TrialFailure
from trainables.data.boxes.data_set import detection_once
from trainables.detector import strategy_run
from trainables.detector.criterion import ImbalanceBCE, build_criterion, class_losses

# One output branch, and two: one that gives each object several boxes, and one that gives it one.
HEADS = pytest.mark.parametrize("head", ["yolo11n.yaml", "yolo26n.yaml"])
COUNTS = [162, 1]
FOCAL_ALPHA = {"focal_gamma": 1.5, "alpha_power": 0.5, "sampler_power": 0.5, "alpha_prior": 0.5}


def model_of(head: str) -> DetectionModel:
    torch.manual_seed(0)
    model = DetectionModel(head, nc=2, verbose=False)
    model.args = get_cfg()
    return model


def batch() -> dict[str, torch.Tensor]:
    """Two images of 64 px: two cells in the first, a cluster in the second."""
    return {
        "img": torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1)),
        "batch_idx": torch.tensor([0.0, 0.0, 1.0]),
        "cls": torch.tensor([[0.0], [0.0], [1.0]]),
        "bboxes": torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.3, 0.2], [0.5, 0.5, 0.6, 0.5]]),
    }


def branches(criterion: Any, predictions: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Each branch's criterion with that branch's predictions."""
    if not isinstance(criterion, E2ELoss):
        return [(criterion, predictions)]
    return [(getattr(criterion, name), predictions[name]) for name in ("one2many", "one2one")]


@HEADS
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_in_each_batch_every_branch_has_the_stock_losses_whatever_gamma(head: str, gamma: float) -> None:
    model = model_of(head)
    predictions = model.train()(batch()["img"])
    ours = build_criterion(model, Loss(focal_gamma=gamma), COUNTS, COUNTS)
    stock = E2ELoss(model) if head == "yolo26n.yaml" else v8DetectionLoss(model)
    pairs = zip(branches(ours, predictions), branches(stock, predictions), strict=True)
    for (mine, seen), (theirs, _) in pairs:
        assert isinstance(mine.bce, ImbalanceBCE)
        torch.testing.assert_close(mine.loss(seen, batch())[0], theirs.loss(seen, batch())[0])
        surer = seen | {"scores": 3 * seen["scores"]}
        torch.testing.assert_close(mine.loss(surer, batch())[0], theirs.loss(surer, batch())[0])


def slopes(criterion: Any, seen: dict[str, Any]) -> torch.Tensor:
    """How hard the class loss pulls at each score, (n_classes, batch, anchors)."""
    scores = seen["scores"].detach().requires_grad_()
    loss = criterion.loss(seen | {"scores": scores}, batch())[0][1]
    (pull,) = torch.autograd.grad(loss, scores, retain_graph=True)
    return pull.abs().transpose(0, 1)


@HEADS
def test_class_weights_share_the_same_loss_out_to_the_rare_class_in_every_branch(head: str) -> None:
    model = model_of(head)
    predictions = model.train()(batch()["img"])
    plain, weighted = (build_criterion(model, Loss(alpha_power=p), COUNTS, COUNTS) for p in (0.0, 0.5))
    pairs = zip(branches(weighted, predictions), branches(plain, predictions), strict=True)
    for (mine, seen), (theirs, _) in pairs:
        torch.testing.assert_close(mine.loss(seen, batch())[0], theirs.loss(seen, batch())[0])
        cell, cluster = slopes(mine, seen) / slopes(theirs, seen)  # each (batch, anchors)
        assert cell.min() < cell.max() == cluster.min() == 1  # cells are pulled less, where there are some
        assert cluster.max() / cell.min() == pytest.approx(162**0.5, rel=1e-4)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn((2, 50, 2), generator=torch.Generator().manual_seed(0))


def test_class_loss_without_strategy_is_plain_cross_entropy(logits: torch.Tensor) -> None:
    targets = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert torch.equal(ImbalanceBCE(Loss(), torch.ones(2))(logits, targets), plain)


def test_class_loss_is_the_focal_loss_on_hard_targets_at_the_plain_size(logits: torch.Tensor) -> None:
    targets = (logits.flip(1) > 0).float()
    loss = ImbalanceBCE(Loss(focal_gamma=2.0), torch.ones(2))
    factors = []
    for seen in (logits, 3 * logits):
        plain = torch.nn.functional.binary_cross_entropy_with_logits(seen, targets, reduction="none")
        oracle = sigmoid_focal_loss(seen, targets, alpha=-1, gamma=2.0)
        factors.append(float(plain.sum() / oracle.sum()))
        torch.testing.assert_close(loss(seen, targets), oracle * factors[-1])
    assert loss.focal_scale.stored() == pytest.approx(sorted(factors))
    assert loss.alpha_scale.stored() is None


def test_alpha_shares_out_the_positives_loss_alone(logits: torch.Tensor) -> None:
    targets = torch.zeros(logits.shape)
    targets[0, 0, 1] = targets[0, 1, 1] = targets[0, 2, 0] = 0.4
    plain = ImbalanceBCE(Loss(), torch.ones(2))(logits, targets)
    loss = ImbalanceBCE(Loss(alpha_power=0.5), torch.tensor([0.5, 1.5]))
    weighted = loss(logits, targets)
    positive = targets > 0
    assert torch.equal(weighted[~positive], plain[~positive])
    torch.testing.assert_close(weighted[positive].sum(), plain[positive].sum())
    times = weighted[positive] / plain[positive]  # in the order of their places: two of class 1, one of 0
    torch.testing.assert_close(times / times[2], torch.tensor([3.0, 3.0, 1.0]))
    assert loss.alpha_scale.stored() == pytest.approx([float(times[2] / 0.5)] * 2)


def test_a_batch_without_an_object_is_as_it_is_and_its_factor_one(logits: torch.Tensor) -> None:
    nothing = torch.zeros(logits.shape)
    loss = ImbalanceBCE(Loss(alpha_power=0.5), torch.tensor([0.5, 1.5]))
    plain = ImbalanceBCE(Loss(), torch.ones(2))(logits, nothing)
    assert torch.equal(loss(logits, nothing), plain)
    assert loss.alpha_scale.stored() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("knobs", "least"),
    [
        pytest.param({"focal_gamma": 2.0}, 3.0, id="focal"),
        pytest.param({"alpha_power": 0.5}, 1.1, id="class weights"),
        pytest.param({"focal_gamma": 2.0, "alpha_power": 0.5}, 3.0, id="both"),
    ],
)
def test_the_class_loss_weighs_what_the_plain_one_would_from_the_first_step_to_the_last(
    knobs: dict[str, float],
    least: float,
    three_splits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`least` is how much a factor changes over the training, at the least."""
    ratios, forward = [], ImbalanceBCE.forward

    def weighed(loss: ImbalanceBCE, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        ours = forward(loss, logits, targets)
        seen = logits.detach()
        plain = torch.nn.functional.binary_cross_entropy_with_logits(seen, targets, reduction="sum")
        ratios.append(float(ours.detach().sum() / plain))
        return ours

    monkeypatch.setattr(ImbalanceBCE, "forward", weighed)
    spec = tiny_spec(three_splits, knobs, steps=30, eval_every=15)
    applied = report_of(spec, tmp_path).applied
    assert len(ratios) == 30
    assert ratios == pytest.approx([1.0] * 30, abs=1e-3)
    changed = [applied[f"{knob.split('_')[0]}_scale"] for knob in knobs]
    assert max(high / low for low, high in changed) > least
    for name in ("focal", "alpha"):
        assert (applied[f"{name}_scale"] == [1.0, 1.0]) == (not any(knob.startswith(name) for knob in knobs))


@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.0, 2.0])
def test_gradient_stays_finite_where_a_prediction_is_its_target(gamma: float) -> None:
    logits = torch.tensor([[[0.0, -200.0, 200.0, 1.0]]], requires_grad=True)
    targets = torch.tensor([[[0.5, 0.0, 1.0, 0.2]]])
    ImbalanceBCE(Loss(focal_gamma=gamma), torch.ones(4))(logits, targets).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0, 3] > 0


@pytest.mark.parametrize(
    "model", ["yolo_tiny.yaml", pytest.param("yolo26n.yaml", marks=pytest.mark.slow)], ids=["one", "two"]
)
def test_every_branch_holds_our_loss_after_a_resume(model: str, tiles: Path, tmp_path: Path) -> None:
    report_of(tiny_spec(tiles, FOCAL_ALPHA, model=model, steps=2), tmp_path / "before")
    checkpoint = tmp_path / "before" / "checkpoint"
    stored = torch.load(checkpoint / strategy_run.CRITERION, weights_only=True)
    spec = tiny_spec(tiles, FOCAL_ALPHA, model=model, steps=4)
    run = set_up(spec, tmp_path / "after", resume=checkpoint)
    fresh = set_up(spec, tmp_path / "fresh")
    losses = class_losses(run.model.criterion)
    assert len(losses) == (2 if model == "yolo26n.yaml" else 1)
    for loss, before, new in zip(losses, stored, class_losses(fresh.model.criterion), strict=True):
        assert isinstance(loss, ImbalanceBCE)
        assert loss.gamma == 1.5
        for scale in ("focal_scale", "alpha_scale"):
            low, high = before[scale]
            assert getattr(loss, scale).stored() == [low, high]
            assert 0 < low < high
            assert getattr(new, scale).stored() is None
        assert torch.equal(loss.alpha, new.alpha)
        assert loss.alpha[1] > loss.alpha[0]


@pytest.mark.slow
def test_a_branch_without_our_class_weights_fails_by_the_receipt(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*args: Any) -> Any:
        criterion = build_criterion(*args)
        criterion.one2one.bce.alpha.fill_(1.0)
        return criterion

    monkeypatch.setattr(strategy_run, "build_criterion", spoiled)
    outcome = outcome_of(tiny_spec(tiles, FOCAL_ALPHA, model="yolo26n.yaml", steps=2), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    for knob in ("alpha_power: asked 0.5", "alpha_prior: asked 0.5", "alpha_cap: asked 30"):
        assert knob in outcome.reason
    assert "focal_gamma" not in outcome.reason


def test_the_receipt_says_what_the_loss_sees_of_each_class(tiles: Path, tmp_path: Path) -> None:
    images = [image.classes for image in detection_once(tiles).splits["train"]]
    cells, clusters = (sum(int((classes == c).sum()) for classes in images) for c in (0, 1))
    # All 20 tiles hold a cell and 5 of them a cluster, so that power 1 draws these four times as often.
    drawn_cells = sum((4 if 1 in classes else 1) * int((classes == 0).sum()) for classes in images)
    drawn_clusters = 4 * clusters

    def applied(prior: float) -> dict[str, Any]:
        knobs = {"sampler_power": 1.0, "alpha_power": 1.0, "alpha_prior": prior}
        return report_of(tiny_spec(tiles, knobs, steps=2), tmp_path / str(prior)).applied

    twice, once = applied(0.0), applied(1.0)
    assert twice["alpha"][1] / twice["alpha"][0] == pytest.approx(cells / clusters)
    assert once["alpha"][1] / once["alpha"][0] == pytest.approx(drawn_cells / drawn_clusters)
    odds = cells / clusters * drawn_clusters / drawn_cells
    assert odds > 1.5  # corrected by the sampler, then once more: now the cells are the minority
    assert twice["effective_prior"] == pytest.approx({"cell": 1 / (1 + odds), "cluster": odds / (1 + odds)})
    assert once["effective_prior"] == pytest.approx({"cell": 0.5, "cluster": 0.5})
    assert once["minority_share"] == twice["minority_share"] == pytest.approx(4 * 5 / (4 * 5 + 15))
