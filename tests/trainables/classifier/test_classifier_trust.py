"""Weights for a classifier that others wrote: what is read, what needs trust, what is too much."""

import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from strangers import Touches, bomb
from torchvision import models

from spaces.errors import UsageError
from trainables.classifier.networks import build_network, check_network
from trainables.contract.trial import TrainSpec
from trainables.contract.trust import trusting_weights


def training(weights: Path, model: str = "resnet18") -> TrainSpec:
    return TrainSpec.model_validate(
        {"model": model, "imgsz": 32, "batch": 4, "steps": 2, "eval_every": 1, "weights": str(weights)}
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["a zip", "an old format"])
def test_code_beside_the_weights_is_not_run(zipped: bool, tmp_path: Path) -> None:
    stored = {"state_dict": models.resnet18(num_classes=2).state_dict(), "extra": Touches(tmp_path / "ran")}
    torch.save(stored, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    for look in (check_network, lambda train, n: build_network(train, channels=3, n_classes=n)):
        with pytest.raises(UsageError, match=r"w\.pt cannot be read") as refused:
            look(training(tmp_path / "w.pt"), 2)
        assert "--trust-weights loads it" in refused.value.hint
    assert not (tmp_path / "ran").exists()
    with trusting_weights(True):
        check_network(training(tmp_path / "w.pt"), 2)
    assert (tmp_path / "ran").exists()  # else the file above had done nothing anyway


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_whole_pickled_model_is_loaded_if_it_is_trusted(wrapped: bool, tmp_path: Path) -> None:
    whole = models.resnet18(num_classes=2)
    torch.save({"model": whole} if wrapped else whole, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="cannot be read"):
        check_network(training(tmp_path / "w.pt"), 2)
    with trusting_weights(True):
        check_network(training(tmp_path / "w.pt"), 2)
        network = build_network(training(tmp_path / "w.pt"), channels=3, n_classes=2)
    assert torch.equal(network.module.state_dict()["fc.weight"], whole.state_dict()["fc.weight"])


def test_a_compressed_bomb_is_refused_by_its_index(tmp_path: Path) -> None:
    file = bomb(tmp_path / "w.pt", "w/data.pkl", 40)
    with pytest.raises(UsageError, match="a pickle of 41,943,040 bytes"):
        check_network(training(file), 2)
    file = bomb(tmp_path / "w.pt", "w/data/0", 1, says=5 * 2**30)
    with pytest.raises(UsageError, match="that unpack to 5,368,709,120"):
        check_network(training(file), 2)


def pickled(body: bytes) -> bytes:
    """A state of one value that its pickle builds by `body`."""
    return b"\x80\x02}X\x05\x00\x00\x00state" + body + b"s."


@pytest.mark.parametrize("zipped", [True, False], ids=["a zip", "an old format"])
def test_a_pickle_that_builds_something_huge_is_refused(zipped: bool, tmp_path: Path) -> None:
    """torch lets a pickle call `bytearray`, which here asks for 16 GiB."""
    huge = pickled(b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x04\x85R")
    file = tmp_path / "w.pt"
    if zipped:
        torch.save({}, file)
        reader = torch.PyTorchFileReader(str(file))
        writer = torch._C.PyTorchFileWriter(str(file) + ".new")
        for name in reader.get_all_records():
            content = huge if name == "data.pkl" else reader.get_record(name)
            if not name.startswith("."):
                writer.write_record(name, content, len(content))
        writer.write_end_of_file()
        file = Path(str(file) + ".new")
    else:
        magic = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
        file.write_bytes(b"".join(magic) + huge + pickle.dumps([], 2))
    with pytest.raises(UsageError, match="bytes that take 2,147,483,648 more to read"):
        check_network(training(file), 2)


@pytest.mark.skipif(find_spec("safetensors") is None, reason="an extra")
@pytest.mark.parametrize("length", [2**62, 2**31, 8])
def test_safetensors_with_a_header_that_lies_are_refused(length: int, tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,399999999996]}}'
    (tmp_path / "w.safetensors").write_bytes(length.to_bytes(8, "little") + header)
    with pytest.raises(UsageError, match=r"w\.safetensors"):
        check_network(training(tmp_path / "w.safetensors"), 2)


@pytest.mark.skipif(find_spec("timm") is None, reason="an extra")
@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "hf_hub:a/b", "local-dir:/tmp"])
def test_models_of_a_hub_are_no_names_here(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no model"):
        check_network(training(tmp_path, f"timm/{name}").model_copy(update={"weights": None}), 2)
