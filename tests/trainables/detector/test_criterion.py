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
def test_at_the_first_batch_every_branch_has_the_stock_losses_whatever_gamma(head: str, gamma: float) -> None:
    model = model_of(head)
    predictions = model.train()(batch()["img"])
    ours = build_criterion(model, Loss(focal_gamma=gamma), COUNTS, COUNTS)
    stock = E2ELoss(model) if head == "yolo26n.yaml" else v8DetectionLoss(model)
    pairs = zip(branches(ours, predictions), branches(stock, predictions), strict=True)
    for (mine, seen), (theirs, _) in pairs:
        assert isinstance(mine.bce, ImbalanceBCE)
        torch.testing.assert_close(mine.loss(seen, batch())[0], theirs.loss(seen, batch())[0])
        first = mine.bce.scale
        mine.loss(seen, batch())
        assert mine.bce.scale == first


@HEADS
def test_class_weights_raise_the_loss_of_the_rare_class_in_every_branch(head: str) -> None:
    model = model_of(head)
    predictions = model.train()(batch()["img"])
    rare = batch()
    rare["cls"] = torch.ones((3, 1))
    plain, weighted = (build_criterion(model, Loss(alpha_power=p), COUNTS, COUNTS) for p in (0.0, 0.5))
    pairs = zip(branches(weighted, predictions), branches(plain, predictions), strict=True)
    for (mine, seen), (theirs, _) in pairs:
        ours, stock = mine.loss(seen, rare)[0], theirs.loss(seen, rare)[0]
        assert ours[1] > stock[1]
        torch.testing.assert_close(ours[[0, 2]], stock[[0, 2]])  # boxes are none of its business


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn((2, 50, 2), generator=torch.Generator().manual_seed(0))


def test_class_loss_without_strategy_is_plain_cross_entropy(logits: torch.Tensor) -> None:
    targets = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert torch.equal(ImbalanceBCE(Loss(), torch.ones(2))(logits, targets), plain)


def test_class_loss_is_the_focal_loss_on_hard_targets_at_the_starting_size(logits: torch.Tensor) -> None:
    targets = (logits.flip(1) > 0).float()
    loss = ImbalanceBCE(Loss(focal_gamma=2.0), torch.ones(2))
    first = loss(logits, targets)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    oracle = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=2.0)
    assert float(first.sum()) == pytest.approx(float(plain.sum()), rel=1e-5)
    torch.testing.assert_close(first, oracle * (plain.sum() / oracle.sum()))
    scale = loss.scale
    loss(logits * 3, targets)
    assert loss.scale == scale


def test_alpha_weights_the_positives_alone(logits: torch.Tensor) -> None:
    targets = torch.zeros(logits.shape)
    targets[0, 0, 1] = 0.4
    plain = ImbalanceBCE(Loss(), torch.ones(2))(logits, targets)
    weighted = ImbalanceBCE(Loss(alpha_power=0.5), torch.tensor([0.5, 1.5]))(logits, targets)
    expected = plain.clone()
    expected[0, 0, 1] *= 1.5
    torch.testing.assert_close(weighted, expected)


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
        assert loss.scale == before["scale"] > 1
        assert new.scale is None
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
