"""The network of `small_cnn`: for pictures of a few dozen pixels a side, trained from scratch in seconds."""

from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Three convolutions and a linear head; group norm, since a sampler would shift batch statistics."""

    def __init__(self, channels: int, n_classes: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(channels, width),
            *_block(width, 2 * width),
            nn.MaxPool2d(2),
            *_block(2 * width, 2 * width),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * width, n_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, n_classes) of `images` (batch, channels, side, side) in [-1, 1]."""
        logits: Tensor = self.layers(images)
        return logits


def _block(channels: int, width: int) -> tuple[nn.Module, ...]:
    return (nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU())
