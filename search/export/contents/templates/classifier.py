"""Predict with this classifier. Needs NumPy, Pillow, and what its weights need.

    python predict.py IMAGE...      a line each: file, class, probability, separated by tabs
    python predict.py IMAGES.npy    the same of images that are arrays already: uint8, (n, side, side) grey or
                                    (n, side, side, 3) RGB, at the side and in the colours of the training

Which weights: `weights.onnx` if it is there (needs onnxruntime), else `weights.torchscript` (torch), else
`weights.pt` (torch, and torchvision or timm for a model of theirs); or `--weights`.

From another program: `Classifier().predict([decode(path, side, channels, pixel_max)])`.

An image is read as in training and evaluation: its EXIF rotation is applied; of grey 16-bit values
`pixel_max` is white (65535 unless the study said otherwise); a palette is looked up; transparency is dropped;
grey or RGB, as the training images were; Pillow's antialiased bilinear resizing to a square, whatever the
aspect ratio. Pixels are divided by 255, `mean` is subtracted, and the result divided by `std`. The class is
that of the largest `logits + bias` (the biases were tuned on val); its probability is
`softmax(logits / temperature)`, so another class can have a higher one.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
IMAGES_AT_ONCE, PIXELS_AT_ONCE = 128, 2**23
WEIGHTS = ("weights.onnx", "weights.torchscript", "weights.pt")  # the first that is there is used

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Settings = dict[str, Any]  # what a file of weights says of its own use


class Torch:
    """`weights.pt`, as it was measured."""

    def __init__(self, file: Path, device: str) -> None:
        import torch  # noqa: PLC0415  (other weights do without)

        stored = torch.load(file, map_location=device, weights_only=True)
        self.torch, self._device, self._half = torch, device, stored.get("amp") == "bf16"
        self.settings: Settings = settings_of(stored)
        network = network_of(stored, file.parent)
        network.load_state_dict(stored["state"])
        self.module = network.to(memory_format=torch.channels_last).to(device).eval()

    def logits(self, images: Floats) -> npt.NDArray[np.float64]:
        """(n, n_classes) of (n, channels, side, side)."""
        torch, device = self.torch, self._device
        given = torch.from_numpy(images).to(device).contiguous(memory_format=torch.channels_last)
        half = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self._half)
        with torch.inference_mode(), half:
            logits: npt.NDArray[np.float64] = self.module(given).double().cpu().numpy()
        return logits


class TorchScript:
    """`weights.torchscript`: torch alone."""

    def __init__(self, file: Path, device: str) -> None:
        import torch  # noqa: PLC0415

        said = {"settings": ""}
        self._torch, self._device = torch, device
        self._network: Any = torch.jit.load(  # type: ignore[no-untyped-call]
            str(file), map_location=device, _extra_files=said
        ).eval()
        self.settings: Settings = json.loads(said["settings"])

    def logits(self, images: Floats) -> npt.NDArray[np.float64]:
        """As of `Torch`."""
        with self._torch.no_grad():
            logits: Floats = self._network(self._torch.from_numpy(images).to(self._device)).cpu().numpy()
        return logits.astype(np.float64)


class Onnx:
    """`weights.onnx`: onnxruntime alone."""

    def __init__(self, file: Path, device: str) -> None:
        import onnxruntime  # noqa: PLC0415

        wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        if wanted not in onnxruntime.get_available_providers():
            raise SystemExit(f"--device {device}: this onnxruntime has no {wanted}")
        self._session = onnxruntime.InferenceSession(str(file), providers=[wanted])
        self.settings: Settings = json.loads(self._session.get_modelmeta().custom_metadata_map["settings"])

    def logits(self, images: Floats) -> npt.NDArray[np.float64]:
        """As of `Torch`."""
        (logits,) = self._session.run(None, {"images": images})
        return np.asarray(logits, dtype=np.float64)


NETWORKS: dict[str, type[Torch | TorchScript | Onnx]] = {
    ".pt": Torch,
    ".torchscript": TorchScript,
    ".onnx": Onnx,
}


class Classifier:
    """Weights, and what they want to see.

    Args:
        weights: A file, or a folder with one; None for this folder.
        device: `cpu`, or e.g. `cuda`.

    Attributes:
        side: Of its square images, pixels.
        channels: Of the images it was trained on: 1 for grey, 3 for RGB.
        class_names: In the order of the logits.
        pixel_max: The value of grey 16-bit images that is white.
    """

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        place = HERE if weights is None else weights
        file = weights_in(place) if place.is_dir() else place
        self._network = NETWORKS[file.suffix](file, device)
        said = self._network.settings
        self.side: int = said["side"]
        self.channels: int = said["channels"]
        self.pixel_max: int = said["pixel_max"]
        self.class_names: list[str] = said["class_names"]
        self._bias = np.array(said["bias"])  # (n_classes,)
        self._temperature: float = said["temperature"]
        mean, std = (np.array(said[name], dtype=np.float32)[:, None, None] for name in ("mean", "std"))
        self._scale, self._shift = 255 * std, mean / std

    @property
    def images_at_once(self) -> int:
        """How many fit into memory together."""
        return max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // (self.side**2 * self.channels)))

    def logits(self, images: Sequence[Pixels] | Pixels) -> npt.NDArray[np.float64]:
        """Of images as `decode` returns them: (n, n_classes), before biases and temperature.

        Raises:
            ValueError: They are not of the side and the colours of the training.
        """
        pixels = np.stack(list(images))
        colours = () if self.channels == 1 else (3,)
        expected = (len(pixels), self.side, self.side, *colours)
        if pixels.shape != expected or pixels.dtype != np.uint8:
            got = f"{pixels.shape} {pixels.dtype}"
            raise ValueError(f"images of shape {expected}, uint8, are wanted, got {got}")
        planes = pixels[:, None] if self.channels == 1 else pixels.transpose(0, 3, 1, 2)
        # (planes / 255 - mean) / std; the plane of a grey image goes to all channels of the network.
        return self._network.logits(
            np.ascontiguousarray(planes.astype(np.float32) / self._scale - self._shift)
        )

    def predict(self, images: Sequence[Pixels] | Pixels, *, tuned: bool = True) -> list[tuple[str, float]]:
        """The class of each image, and its probability; without `tuned` the largest logit decides."""
        logits = self.logits(images)
        decided = (logits + self._bias if tuned else logits).argmax(axis=1)  # (n,)
        scaled = logits / self._temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)  # (n, n_classes)
        return [(self.class_names[i], float(of[i])) for i, of in zip(decided.tolist(), shares, strict=True)]


def settings_of(stored: dict[str, Any]) -> Settings:
    """What `weights.pt` says of its own use, as it goes into other files of weights, too."""
    plain = {name: [float(value) for value in stored[name]] for name in ("mean", "std", "bias")}
    return {
        **plain,
        "side": stored["imgsz"],
        # Weights of rarecall 0.1 do not say it; of grey files both readings give the same planes.
        "channels": stored.get("image_channels", stored["channels"]),
        "pixel_max": stored.get("pixel_max") or 65535,
        "class_names": list(stored["class_names"]),
        "temperature": float(stored["temperature"]),
    }


def traceable(folder: Path) -> Iterator[tuple[str, Any, Any, Settings]]:
    """Of each `weights.pt`: name, network, an input, settings; for `convert.py`."""
    network = Torch(folder / "weights.pt", "cpu")
    side, channels = network.settings["side"], len(network.settings["mean"])
    random = network.torch.Generator().manual_seed(0)
    yield (
        "weights",
        network.module,
        network.torch.rand(2, channels, side, side, generator=random),
        network.settings,
    )


def weights_in(folder: Path) -> Path:
    """The file of weights that is used unless one is named."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise SystemExit(f"no weights in {folder}")
    return found


def network_of(stored: dict[str, Any], folder: Path) -> Any:
    """The network, untrained: of `model.py` beside the weights or here, of timm, or of torchvision."""
    name, n_classes = stored["model"], len(stored["class_names"])
    arguments = stored.get("arguments", {})  # for models that are made for one image size
    module: Any
    if name == "small_cnn":
        file = folder / "model.py"
        spec = spec_from_file_location("small_cnn", file if file.is_file() else HERE / "model.py")
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
    parser.add_argument("--weights", type=Path, help="default: which of them is in this folder")
    parser.add_argument("--device", default="cpu", help="cpu, or e.g. cuda")
    args = parser.parse_args()
    if folders := [file for file in args.files if Path(file).is_dir()]:
        parser.error(f"a folder; name the images in it, e.g. {folders[0]}/*.png")
    if missing := [file for file in args.files if not Path(file).is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    if args.weights is not None and (args.weights.suffix not in NETWORKS or not args.weights.is_file()):
        parser.error(f"--weights: no file that ends in {', '.join(NETWORKS)}: {args.weights}")
    classifier = Classifier(args.weights, device=args.device)
    named = named_images(args.files, classifier)
    while batch := list(islice(named, classifier.images_at_once)):
        said = classifier.predict([image for _, image in batch], tuned=not args.untuned)
        for (name, _), (class_name, share) in zip(batch, said, strict=True):
            print(f"{name}\t{class_name}\t{share:.6f}")


if __name__ == "__main__":
    main()
