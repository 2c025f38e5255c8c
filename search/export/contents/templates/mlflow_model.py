"""These weights as an MLflow model, which `mlflow.pyfunc.load_model("mlflow")` loads.

    python mlflow_model.py        # writes the folder `mlflow` beside it; needs mlflow-skinny and pandas

Its `predict` takes images, as paths or as the bytes of image files: a list, or a data frame with a column
`image`. A detector answers with a row for each object: number of the image (from 0), class, score, x, y,
width, height; pixels. A classifier with a row for each image: class and probability. What is found is what
`predict.py` finds, which lies in the folder with all that it needs.
"""

import runpy
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).resolve().parent
TAKEN = ("predict.py", "networks.py", "model.py", "carried")
# Which weights it takes, as `predict.py` does, and what these need.
WEIGHTS = {
    ".onnx": "requirements-onnx.txt",
    ".torchscript": "requirements-torchscript.txt",
    ".pt": "requirements.txt",
}


class Model:
    """What MLflow calls.

    Args:
        folder: With `predict.py` and weights.
    """

    def __init__(self, folder: Path) -> None:
        self._script = runpy.run_path(str(folder / "predict.py"))
        self._is_detector = "Detector" in self._script
        self._network: Any = self._script["Detector" if self._is_detector else "Classifier"]()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Of a list of images, or a data frame with a column `image`; the module says what."""
        alone = isinstance(model_input, str | bytes | Path)
        given = model_input["image"] if isinstance(model_input, pd.DataFrame) else model_input
        files = [model_input] if alone else list(given)
        return self._boxes(files) if self._is_detector else self._classes(files)

    def _boxes(self, files: list[Any]) -> pd.DataFrame:
        rows = []
        for number, file in enumerate(files):
            with on_disk(file) as path:
                pixels = self._script["read_pixels"](path, self._network.use.pixel_max)
            if pixels is None:
                raise ValueError(f"image {number}: no image that can be read")
            found = self._script["results"](number, "", self._network.find(pixels), self._network.class_names)
            rows += [(number, one["category"], one["score"], *one["bbox"]) for one in found]
        return pd.DataFrame(rows, columns=["image", "class", "score", "x", "y", "width", "height"])

    def _classes(self, files: list[Any]) -> pd.DataFrame:
        network, rows = self._network, []
        for first in range(0, len(files), network.images_at_once):
            images = []
            for file in files[first : first + network.images_at_once]:
                with on_disk(file) as path:
                    read = self._script["decode"](path, network.side, network.channels, network.pixel_max)
                images.append(read)
            rows += network.predict(images)
        return pd.DataFrame(rows, columns=["class", "probability"])


@contextmanager
def on_disk(image: Any) -> Iterator[Path]:
    """A file's path, or for as long as it is read that of a file with these bytes."""
    if not isinstance(image, bytes | bytearray):
        yield Path(image)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(image)
        file.flush()
        yield Path(file.name)


def _load_pyfunc(data_path: str) -> Model:
    """By this name MLflow asks for it."""
    return Model(Path(data_path))


def main() -> None:
    """Write the folder."""
    import mlflow.pyfunc  # noqa: PLC0415  (whoever loads it has another part of MLflow)

    suffix = next(suffix for suffix in WEIGHTS if list(HERE.glob(f"weights*{suffix}")))
    pinned = [line for line in (HERE / WEIGHTS[suffix]).read_text().splitlines() if not line.startswith("#")]
    with tempfile.TemporaryDirectory() as root:
        bundle = Path(root) / "bundle"
        bundle.mkdir()
        for file in [*(HERE / name for name in TAKEN), *HERE.glob(f"weights*{suffix}")]:
            if file.is_dir():
                shutil.copytree(file, bundle / file.name)
            elif file.exists():
                shutil.copy(file, bundle)
        mlflow.pyfunc.save_model(
            path=str(HERE / "mlflow"),
            loader_module=Path(__file__).stem,
            data_path=str(bundle),
            code_paths=[__file__],
            pip_requirements=[f"mlflow-skinny=={mlflow.__version__}", f"pandas=={pd.__version__}", *pinned],
        )
    print(f"mlflow: {suffix.removeprefix('.')}")


if __name__ == "__main__":
    main()
