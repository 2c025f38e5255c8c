"""Stain, light and hue of a batch of images on its device: as the host changes them one by one, within 1/255.

On the host that is `Change.recoloured`, and then Ultralytics' `RandomHSV`, which goes by OpenCV's 8-bit hue,
saturation and value.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.strategy.augmentation import Change
from trainables.strategy.stain import density_map

Floats = npt.NDArray[np.float32]

# Where in a row of `packed` is what.
CHANGED, MIX, ADDED, CONTRAST, BRIGHTNESS, GAINS = 0, slice(1, 10), slice(10, 13), 13, 14, slice(15, 18)
LENGTH = 18
FIXED_POINT = 12  # bits behind the point in OpenCV's tables
# Which of (value, p, q, t) is red, green and blue in each sixth of the hues.
SECTORS = ((0, 3, 1), (2, 0, 1), (1, 0, 3), (1, 2, 0), (3, 1, 0), (0, 1, 2))


def packed(change: Change | None, gains: npt.ArrayLike) -> Floats:
    """What is done to the colours of one image, (LENGTH,).

    Args:
        change: Its stain and light; None leaves them.
        gains: (3,) what `RandomHSV` has drawn for hue, saturation and value; zeros leave them.
    """
    row = np.zeros(LENGTH, dtype=np.float32)
    row[GAINS] = gains
    if change is not None:
        mix, row[ADDED] = density_map(change.stain_scale, change.stain_shift)
        row[MIX] = mix.ravel()
        row[[CHANGED, CONTRAST, BRIGHTNESS]] = 1, change.contrast, change.brightness
    return row


def recoloured(images: Tensor, colours: Floats) -> Tensor:
    """(n, 3, height, width) RGB uint8 in other colours.

    Args:
        images: Likewise; stays as it is.
        colours: (n, LENGTH) `packed` rows.
    """
    changed = torch.from_numpy(np.flatnonzero(colours[:, CHANGED])).to(images.device)
    with torch.autocast(images.device.type, enabled=False):  # Ultralytics prepares batches within one
        if len(changed):
            restained = _restained(images[changed], colours[colours[:, CHANGED] > 0])
            images = images.index_copy(0, changed, restained)
        return _turned_hues(images, colours[:, GAINS]) if colours[:, GAINS].any() else images


def _restained(images: Tensor, colours: Floats) -> Tensor:
    on_device = torch.from_numpy(colours).to(images.device)
    mix, added = on_device[:, MIX].reshape(-1, 3, 3), on_device[:, ADDED, None]
    contrast, brightness = (on_device[:, at, None, None, None] for at in (CONTRAST, BRIGHTNESS))
    density = -((images.float() + 0.5) / 256).log().flatten(2)  # (n, rgb, pixels)
    values = torch.baddbmm(added, mix.transpose(1, 2), density).neg().exp() * 256 - 0.5
    values = values.reshape(images.shape)
    mean = values.mean(dim=(1, 2, 3), keepdim=True)
    return ((values - mean) * contrast + mean + brightness).round().clamp(0, 255).to(torch.uint8)


def _turned_hues(images: Tensor, gains: Floats) -> Tensor:
    hue, saturation, value = _looked_up(_hsv(images), gains)
    hue, saturation = hue * (6 / 180), saturation / 255
    sector = hue.floor()
    within = hue - sector
    p, q, t = (value * (1 - saturation * share) for share in (torch.ones_like(within), within, 1 - within))
    of_each = torch.stack([value, p, q, t], dim=1)  # (n, 4, height, width)
    which = torch.tensor(SECTORS, device=images.device)[sector.long() % 6].movedim(-1, 1)  # (n, rgb, …)
    return of_each.gather(1, which).round().clamp(0, 255).to(torch.uint8)


def _hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in [0, 180), saturation and value as OpenCV's bytes have them, each (n, height, width) int64."""
    red, green, blue = images.long().unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    six = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = _divided(six, 180 / 6, spread)
    return hue + 180 * (hue < 0), _divided(spread, 255, value), value


def _divided(number: Tensor, times: float, by: Tensor) -> Tensor:
    """`number * times / by` by OpenCV's table of inverses; 0 where `by` is."""
    below = np.arange(1, 256)
    inverses = np.concatenate([[0], np.rint(times * 2**FIXED_POINT / below)]).astype(np.int64)
    table = torch.from_numpy(inverses).to(number.device)
    return (number * table[by] + (1 << FIXED_POINT - 1)) >> FIXED_POINT


def _looked_up(planes: tuple[Tensor, Tensor, Tensor], gains: Floats) -> list[Tensor]:
    """Hue, saturation and value after `RandomHSV`'s tables, each (n, height, width) float32."""
    x, gain = np.arange(256), gains.astype(np.float64)[:, :, None]  # (n, 3, 1)
    hue = (x + gain[:, 0] * 180) % 180
    saturation, value = (np.clip(x * (gain[:, at] + 1), 0, 255) for at in (1, 2))
    saturation[:, 0] = 0
    found = []
    for plane, table in zip(planes, (hue, saturation, value), strict=True):
        on_device = torch.from_numpy(table.astype(np.uint8)).to(plane.device)
        found.append(on_device.gather(1, plane.flatten(1)).reshape(plane.shape).float())
    return found
