"""A classifier as it is written with torch and torchvision alone; `image_folder.py` times it beside ours.

    python benchmarks/plain_classifier.py FOLDER RARE [--cached] [--bf16] [--steps 60] …

`ImageFolder`, a `WeightedRandomSampler` that balances the classes, two workers per `DataLoader`, AdamW with a
warm-up and half a cosine, a validation every so many steps. With `--cached` the loaders decode all images
once, and then serve them from memory. Prints the recall of class RARE on val.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import get_model

WORKERS = 2  # of a loader, unless told otherwise


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("rare")
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="mixed precision")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--workers", type=int, default=WORKERS, help="of each loader")
    for name, default in {"imgsz": 64, "batch": 64, "steps": 60, "eval-every": 20, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, value in {"lr": 0.001, "lr-final": 0.05, "weight-decay": 0.0005}.items():
        parser.add_argument(f"--{name}", type=float, default=value)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    seen = transforms.Compose(
        [
            transforms.Resize((args.imgsz, args.imgsz)),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    train, val = (ImageFolder(args.folder / split, seen) for split in ("train", "val"))
    labels, rare = torch.tensor(train.targets), train.class_to_idx[args.rare]
    weights = 1.0 / torch.bincount(labels)[labels]
    sampler = WeightedRandomSampler(weights.tolist(), num_samples=args.eval_every * args.batch)
    stored = in_memory if args.cached else as_it_is
    train_loader = DataLoader(stored(train), args.batch, sampler=sampler, num_workers=args.workers)
    val_loader = DataLoader(stored(val), 256, num_workers=args.workers)

    model = get_model(args.model, num_classes=len(train.classes)).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    warm = max(1, round(0.1 * args.steps))
    warm_up = LinearLR(optimizer, start_factor=1 / warm, total_iters=warm)
    cosine = CosineAnnealingLR(optimizer, T_max=args.steps - warm, eta_min=args.lr * args.lr_final)
    schedule = SequentialLR(optimizer, [warm_up, cosine], milestones=[warm])
    precision = torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.bf16)
    for _ in range(args.steps // args.eval_every):
        model.train()
        for images, target in train_loader:
            optimizer.zero_grad()
            with precision:
                logits = model(images.to(args.device))
            nn.functional.cross_entropy(logits.float(), target.to(args.device)).backward()
            optimizer.step()
            schedule.step()
        with precision:
            recall = measure(model, val_loader, rare, args.device)
    print(recall)


def as_it_is(data: Dataset[Any]) -> Dataset[Any]:
    return data


def in_memory(data: Dataset[Any]) -> Dataset[Any]:
    images, labels = zip(*DataLoader(data, 256, num_workers=WORKERS), strict=True)
    return TensorDataset(torch.cat(images), torch.cat(labels))


def measure(
    model: Callable[[torch.Tensor], torch.Tensor], loader: DataLoader[Any], rare: int, device: str
) -> float:
    """Recall of one class."""
    found = of = 0
    model.eval()
    with torch.inference_mode():
        for images, target in loader:
            is_rare = target == rare
            found += int((model(images.to(device)).argmax(dim=1).cpu()[is_rare] == rare).sum())
            of += int(is_rare.sum())
    return found / of


if __name__ == "__main__":
    main()
