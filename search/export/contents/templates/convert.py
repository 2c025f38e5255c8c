"""Write these weights as ONNX or TorchScript, for `predict.py` or a program of your own.

    python convert.py --onnx            # needs onnx and onnxruntime
    python convert.py --torchscript

The file has one input, `images`: float32 of (n, channels, side, side), any n. Beside the weights it holds all
that `predict.py` knows of their use, as JSON under the key `settings`. What is written is run once, and has
to put out what the network itself does.
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from predict import traceable  # type: ignore[import-not-found]

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-3  # of what the network puts out, relative to its largest values


def write_onnx(module: Any, example: torch.Tensor, settings: dict[str, Any], file: Path) -> Any:
    """Write, and return what the file puts out for the example."""
    import onnx  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    torch.onnx.export(
        module,
        (example,),
        str(file),
        dynamo=False,  # by tracing, as Ultralytics does
        opset_version=17,
        input_names=["images"],
        output_names=["found"],
        dynamic_axes={"images": {0: "n"}, "found": {0: "n"}},
    )
    written = onnx.load(file)
    onnx.helper.set_model_props(written, {"settings": json.dumps(settings)})
    onnx.checker.check_model(written)
    onnx.save(written, file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": example.numpy()})[0]


def write_torchscript(module: Any, example: torch.Tensor, settings: dict[str, Any], file: Path) -> Any:
    """Write, and return what the file puts out for the example."""
    traced: Any = torch.jit.trace(module, example, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
    traced.save(str(file), _extra_files={"settings": json.dumps(settings)})
    with torch.inference_mode():
        return torch.jit.load(str(file))(example).numpy()  # type: ignore[no-untyped-call]


def main() -> None:
    """Write what is asked for, and check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx", action="store_true", help="write weights.onnx")
    parser.add_argument("--torchscript", action="store_true", help="write weights.torchscript")
    args = parser.parse_args()
    if not (args.onnx or args.torchscript):
        parser.error("--onnx or --torchscript: at least one of them")
    asked = {".onnx": args.onnx, ".torchscript": args.torchscript}
    writers = {".onnx": write_onnx, ".torchscript": write_torchscript}
    warnings.simplefilter("ignore")  # that tracing is deprecated, and shapes become constants
    for name, module, example, settings in traceable(HERE):
        with torch.inference_mode():
            expected = module(example).numpy()
        for suffix in (suffix for suffix, wanted in asked.items() if wanted):
            file = HERE / f"{name}{suffix}"
            found = writers[suffix](module, example, settings, file)
            worst = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
            if found.shape != expected.shape or not worst <= TOLERANCE:
                file.unlink()
                raise SystemExit(f"{file.name} puts out something else than the network, by {worst:.2g}")
            print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
