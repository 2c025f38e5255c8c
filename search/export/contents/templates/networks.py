"""A detector's weights, loaded: each kind of file behind the same few names, for `predict.py`.

Every file says itself how it is used. Classes have `settings`, what the file says, and `rows`, which finds.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent / "carried"))

from trainables.contract.merging import Merging
from trainables.evaluation.merging import Placed, merge

WEIGHTS = ("weights.onnx", "weights.torchscript", "weights.pt")  # the first that is there is used
MOST_CANDIDATES = 30_000  # boxes of a tile that suppression looks at
HEAD_MAX_DET = 300  # that a head which needs no suppression keeps at least

Settings = dict[str, Any]  # what a file of weights says of its own use


@dataclass(frozen=True)
class Use:
    """How the detector is used; what its weights say, unless a person says otherwise.

    Attributes:
        conf: Boxes score more.
        iou: Of non-maximum suppression within a tile.
        max_det: Boxes per tile.
        imgsz: Side of the network's square, pixels.
        size: Of a tile, pixels; None for images as they are.
        overlap: Of neighbouring tiles, pixels.
        merging: How what is found on tiles is merged: core, nms, ios, wbf, joined or none.
        pixel_max: The 16-bit value that is white; None for the high byte.
    """

    conf: float
    iou: float
    max_det: int
    imgsz: int
    size: int | None
    overlap: int
    merging: Merging
    pixel_max: int | None


class Torch:
    """`weights.pt`, as it was measured: Ultralytics' network and suppression."""

    def __init__(self, file: Path, device: str) -> None:
        for name in ("YOLO_OFFLINE", "ULTRALYTICS_SAFE_LOAD", "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS"):
            os.environ.setdefault(name, "1")  # no network, and no code that a file of weights names
        os.environ.setdefault("YOLO_AUTOINSTALL", "0")
        import torch  # noqa: PLC0415  (other weights do without)
        import torchvision  # noqa: F401, PLC0415  (whose suppression Ultralytics then uses)
        from ultralytics import YOLO  # noqa: PLC0415  # type: ignore[attr-defined,unused-ignore]
        from ultralytics.utils import nms  # noqa: PLC0415

        loaded = YOLO(file)
        self.torch, self._nms, self._device = torch, nms, device
        self.settings: Settings = settings_of(loaded.ckpt, loaded.model.names)
        self.module = loaded.model.float().eval().fuse(verbose=False).to(device)
        max_det = self.settings["predict"]["max_det"]
        self.module.set_head_attr(max_det=max(max_det, HEAD_MAX_DET))

    def rows(self, squares: npt.NDArray[np.float32], use: Use) -> list[npt.NDArray[np.float32]]:
        """(B, 3, side, side) RGB in [0, 1] -> of each (n, 6) x1, y1, x2, y2, score, class; by score."""
        batch = self.torch.from_numpy(squares).to(self._device)
        batch = batch.contiguous(memory_format=self.torch.channels_last)
        with self.torch.no_grad():
            found = self._nms.non_max_suppression(
                self.module(batch),
                use.conf,
                use.iou,
                max_det=use.max_det,
                max_time_img=1e6,  # seconds: past its limit the rest of a batch would be dropped
                end2end=bool(getattr(self.module, "end2end", False)),
            )
        return [boxes[:, :6].cpu().numpy() for boxes in found]


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

    def rows(self, squares: npt.NDArray[np.float32], use: Use) -> list[npt.NDArray[np.float32]]:
        """As of `Torch`."""
        with self._torch.no_grad():
            raw = self._network(self._torch.from_numpy(squares).to(self._device))
        return suppressed(raw.cpu().numpy(), use)


class Onnx:
    """`weights.onnx`: onnxruntime alone."""

    def __init__(self, file: Path, device: str) -> None:
        import onnxruntime  # noqa: PLC0415

        wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        if wanted not in onnxruntime.get_available_providers():
            raise SystemExit(f"--device {device}: this onnxruntime has no {wanted}")
        self._session = onnxruntime.InferenceSession(str(file), providers=[wanted])
        said = self._session.get_modelmeta().custom_metadata_map
        self.settings: Settings = json.loads(said["settings"])

    def rows(self, squares: npt.NDArray[np.float32], use: Use) -> list[npt.NDArray[np.float32]]:
        """As of `Torch`."""
        (raw,) = self._session.run(None, {"images": squares})
        return suppressed(raw, use)


Network = Torch | TorchScript | Onnx
NETWORKS: dict[str, type[Network]] = {".pt": Torch, ".torchscript": TorchScript, ".onnx": Onnx}


def settings_of(stored: Settings, names: dict[int, str]) -> Settings:
    """What `weights.pt` says of its own use, as it goes into other files of weights, too."""
    said = {name: stored.get(name) for name in ("predict", "tiles", "pixel_max")}
    return {**said, "suppress": stored.get("suppress") or 0.0, "class_names": list(names.values())}


def suppressed(raw: npt.NDArray[np.float32], use: Use) -> list[npt.NDArray[np.float32]]:
    """What a network puts out, (B, 4 + classes, n), after non-maximum suppression within each class.

    A head that needs none, (B, n, 6), is cut at the confidence alone.
    """
    if raw.shape[-1] == 6:
        return [rows[rows[:, 4] > use.conf][: use.max_det] for rows in raw]
    label, score = raw[:, 4:].argmax(axis=1), raw[:, 4:].max(axis=1)  # (B, n)
    image, place = np.nonzero(score > use.conf)
    order = np.argsort(-score[image, place], kind="stable")
    rank = np.empty(len(order), dtype=np.int64)  # among those of its image
    for i in range(len(raw)):
        mine = order[image[order] == i]
        rank[mine] = np.arange(len(mine))
    image, place = image[rank < MOST_CANDIDATES], place[rank < MOST_CANDIDATES]
    centre, half = raw[image, :2, place], raw[image, 2:4, place] / 2
    placed = Placed(
        image, image, label[image, place], score[image, place], np.hstack([centre - half, centre + half])
    )
    # Suppression within an image is one of the ways of merging: that of a whole image of one tile.
    all_ = np.arange(len(raw))
    kept = merge(placed, np.tile([0, 0, use.imgsz, use.imgsz], (len(raw), 1)), all_, "nms", iou=use.iou)
    rows = np.hstack([kept.box, kept.score[:, None], kept.label[:, None].astype(np.float32)])
    return [rows[kept.image == i][: use.max_det] for i in all_]


def traceable(folder: Path) -> Iterator[tuple[str, Any, Any, Settings]]:
    """Of each `weights.pt`: name, network, an input, settings; for `convert.py`."""
    for file in sorted(folder.glob("weights*.pt")):
        network = Torch(file, "cpu")
        head = network.module.model[-1]
        head.export, head.format, head.dynamic = True, "torchscript", False
        side = network.settings["predict"]["imgsz"]
        generator = network.torch.Generator().manual_seed(0)
        yield (
            file.stem,
            network.module,
            network.torch.rand(2, 3, side, side, generator=generator),
            network.settings,
        )


def weights_in(folder: Path) -> Path:
    """The file of weights that is used unless one is named."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise SystemExit(f"no weights in {folder}")
    return found
