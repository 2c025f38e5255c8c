"""Predict with this classifier. Needs torch, NumPy, Pillow, and torchvision or timm for a model of theirs.

    python predict.py IMAGE...      a line each: file, class, probability, separated by tabs
    python predict.py IMAGES.npy    the same of images that are arrays already: uint8, (n, side, side) grey or
                                    (n, side, side, 3) RGB, at the side and in the colours of the training

From another program: `Classifier().predict([decode(path, side, channels, pixel_max)])`.

An image is read as in training and evaluation: its EXIF rotation is applied; of grey 16-bit values
`pixel_max` is white (65535 unless the study said otherwise); a palette is looked up; transparency is dropped;
grey or RGB, as the training images were; Pillow's antialiased bilinear resizing to a square, whatever the
aspect ratio. Pixels are divided by 255, `mean` is subtracted, and the result divided by `std`. The class is
that of the largest `logits + bias` (the biases were tuned on val); its probability is
`softmax(logits / temperature)`, so another class can have a higher one.
"""

import argparse
from collections.abc import Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
IMAGES_AT_ONCE, PIXELS_AT_ONCE = 128, 2**23

Pixels = npt.NDArray[np.uint8]


class Classifier:
    """The network of `weights.pt`, and what it wants to see.

    Attributes:
        side: Of its square images, pixels.
        channels: Of the images it was trained on: 1 for grey, 3 for RGB.
        class_names: In the order of the logits.
        pixel_max: The value of grey 16-bit images that is white.
    """

    def __init__(self, folder: Path = HERE, device: str = "cpu") -> None:
        stored = torch.load(folder / "weights.pt", map_location=device, weights_only=True)
        self.side: int = stored["imgsz"]
        # Weights of rarecall 0.1 do not say it; of grey files both readings give the same planes.
        self.channels: int = stored.get("image_channels", stored["channels"])
        self.pixel_max: int = stored.get("pixel_max") or 65535
        self.class_names: list[str] = stored["class_names"]
        self._bias: Tensor = stored["bias"]  # (n_classes,)
        self._temperature: float = stored["temperature"]
        self._device, self._half = device, stored.get("amp") == "bf16"
        self._mean, self._std = (
            torch.tensor(stored[name], device=device)[:, None, None] for name in ("mean", "std")
        )
        network = network_of(stored, folder)
        network.load_state_dict(stored["state"])
        self._network = network.to(memory_format=torch.channels_last).to(device).eval()

    @property
    def images_at_once(self) -> int:
        """How many fit into memory together."""
        return max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // (self.side**2 * self.channels)))

    def logits(self, images: Sequence[Pixels] | Pixels) -> Tensor:
        """Of images as `decode` returns them: (n, n_classes), before biases and temperature.

        Raises:
            ValueError: They are not of the side and the colours of the training.
        """
        pixels = torch.from_numpy(np.stack(list(images)))
        colours = () if self.channels == 1 else (3,)
        expected = (len(pixels), self.side, self.side, *colours)
        if pixels.shape != expected or pixels.dtype != torch.uint8:
            got = f"{tuple(pixels.shape)} {pixels.dtype}"
            raise ValueError(f"images of shape {expected}, torch.uint8, are wanted, got {got}")
        planes = pixels.unsqueeze(1) if self.channels == 1 else pixels.permute(0, 3, 1, 2)
        # (planes / 255 - mean) / std; the plane of a grey image goes to all channels of the network.
        scaled = planes.to(self._device).float().div(255 * self._std).sub(self._mean / self._std)
        scaled = scaled.contiguous(memory_format=torch.channels_last)
        half = torch.autocast(torch.device(self._device).type, torch.bfloat16, enabled=self._half)
        with torch.inference_mode(), half:
            logits: Tensor = self._network(scaled)
        return logits.double()

    def predict(self, images: Sequence[Pixels] | Pixels, *, tuned: bool = True) -> list[tuple[str, float]]:
        """The class of each image, and its probability; without `tuned` the largest logit decides."""
        logits = self.logits(images)
        decided = (logits + self._bias if tuned else logits).argmax(dim=1)  # (n,)
        shares = (logits / self._temperature).softmax(dim=1)  # (n, n_classes)
        chosen = shares.gather(1, decided[:, None])[:, 0]
        return [
            (self.class_names[i], share) for i, share in zip(decided.tolist(), chosen.tolist(), strict=True)
        ]


def network_of(stored: dict[str, Any], folder: Path) -> nn.Module:
    """The network, untrained: of `model.py` beside the weights, of timm, or of torchvision."""
    name, n_classes = stored["model"], len(stored["class_names"])
    arguments = stored.get("arguments", {})  # for models that are made for one image size
    module: nn.Module
    if name == "small_cnn":
        spec = spec_from_file_location("small_cnn", folder / "model.py")
        assert spec is not None
        assert spec.loader is not None
        source = module_from_spec(spec)
        spec.loader.exec_module(source)
        module = source.SmallCnn(stored["channels"], n_classes)
    elif name.startswith("timm/"):
        import timm  # noqa: PLC0415  (only for its models)

        module = timm.create_model(name.removeprefix("timm/"), num_classes=n_classes, **arguments)
    else:
        from torchvision import models  # noqa: PLC0415  (only for its models)

        module = models.get_model(name, num_classes=n_classes, **arguments)
    return module


def decode(path: str | Path, side: int, channels: int, pixel_max: int = 65535) -> Pixels:
    """An image file as (side, side) grey for one channel, (side, side, 3) RGB for three.

    Raises:
        OSError: It cannot be read.
        ValueError: Its pixels are floating-point numbers, which have no known range.
    """
    # As a stream: given a name, Pillow 13 garbles an uncompressed TIFF that is to be turned by 90 degrees.
    with Path(path).open("rb") as content, Image.open(content) as stored:
        image = ImageOps.exif_transpose(stored)
        if image.mode == "F":
            raise ValueError(f"{path}: floating-point pixels have no known range")
        if image.mode in DEEP_MODES:
            levels = np.clip(np.asarray(image), 0, pixel_max) * (255 / pixel_max)
            image = Image.fromarray(np.rint(levels).astype(np.uint8))
        if "transparency" in image.info:
            image = image.convert("RGBA")
        plain = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(plain.resize((side, side), Image.Resampling.BILINEAR))


def named_images(files: Sequence[str], classifier: Classifier) -> Iterator[tuple[str, Pixels]]:
    """Every image of the files, with its name."""
    for file in files:
        if file.endswith(".npy"):
            yield from ((f"{file}[{i}]", image) for i, image in enumerate(np.load(file)))
        else:
            try:
                image = decode(file, classifier.side, classifier.channels, classifier.pixel_max)
            except OSError as error:  # Pillow does not say which file it cannot read
                raise SystemExit(f"{file}: {error}") from None
            yield file, image


def main() -> None:
    """Print what the classifier says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="IMAGE")
    parser.add_argument("--untuned", action="store_true", help="decide without the biases")
    parser.add_argument("--device", default="cpu", help="cpu, or e.g. cuda")
    args = parser.parse_args()
    if missing := [file for file in args.files if not Path(file).is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    classifier = Classifier(device=args.device)
    named = named_images(args.files, classifier)
    while batch := list(islice(named, classifier.images_at_once)):
        said = classifier.predict([image for _, image in batch], tuned=not args.untuned)
        for (name, _), (class_name, share) in zip(batch, said, strict=True):
            print(f"{name}\t{class_name}\t{share:.6f}")


if __name__ == "__main__":
    main()
