import json

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from inference.engine.checkpoint import (
    CheckpointError,
    Metadata,
    load_arrays,
    read_metadata,
    save,
    sha256,
)
from inference.engine.upstream import import_upstream

ARRAYS = {
    "conv1.weight": np.full((2, 3), 0.1, np.float32),
    "bn1.weight": np.full(2, 0.1, np.float32),
    "bn1.running_var": np.full(2, 1e6, np.float32),
    "bn1.num_batches_tracked": np.array(3),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.safetensors"
    save(path, ARRAYS, Metadata("m", "1", training={"groups": 37}))
    return path


def code(call, *args, **kwargs):
    with pytest.raises(CheckpointError) as error:
        call(*args, **kwargs)
    return error.value.code


def test_round_trip(path):
    metadata, digest = read_metadata(path)
    assert metadata == Metadata("m", "1", training={"groups": 37}) and digest == sha256(path)
    arrays = load_arrays(path)
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "conv1.weight": "float16",
        "bn1.weight": "float32",
        "bn1.running_var": "float32",
    }


def test_missing(tmp_path):
    assert code(read_metadata, tmp_path / "none") == "missing"


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_truncated(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    assert code(read_metadata, path) == "corrupt"
    assert code(load_arrays, path) == "corrupt"


def test_changed_bytes_fail_the_checksum(path):
    digest = sha256(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert code(read_metadata, path, digest) == "checksum"


def test_files_of_another_kind_are_rejected(tmp_path):
    from safetensors.numpy import save_file

    text = tmp_path / "a.safetensors"
    text.write_text("hello, this is no model" * 10)
    assert code(read_metadata, text) == "foreign"
    other = tmp_path / "b.safetensors"
    save_file({"a": np.zeros(2)}, other)
    assert code(read_metadata, other) == "foreign"


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "vgg"}, {"stride_in": "conv3"}, {"classes": ["a", "b"]}, {"std": [0, 1, 1]}, {"cut_low": 0.9},
        {"cut_low": "0.4"}, {"mean": [1]}, {"calibrated": True}, {"calibration": {"slope": 1}}, {"surprise": 1},
        {"cut_low": None}, {"name": ""},
    ],
)  # fmt: skip
def test_metadata_is_validated(change):
    values = json.loads(Metadata("m", "1").to_json()) | change
    assert code(Metadata.from_json, json.dumps(values)) == "foreign"


def test_weights_out_of_range_are_rejected(tmp_path):
    assert code(save, tmp_path / "x", {"fc.weight": np.array([1e9])}, Metadata("m", "1")) == "corrupt"
    assert list(tmp_path.iterdir()) == []


def upstream(prefix=""):
    network = resnet50(weights=None)
    network.fc = torch.nn.Linear(2048, 2)
    for weight in network.parameters():
        weight.data = weight.data.half().float()  # what the file can hold
    return network.eval(), {prefix + name: value for name, value in network.state_dict().items()}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model_state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_import_upstream(tmp_path, wrap, prefix):
    from inference.engine.network import from_checkpoint

    torch.manual_seed(0)
    original, state = upstream(prefix)
    torch.save(wrap(state), tmp_path / "u.pth")
    import_upstream(tmp_path / "u.pth", tmp_path / "u.safetensors")
    network, metadata = from_checkpoint(tmp_path / "u.safetensors")
    assert not metadata.calibrated and metadata.stride_in == "conv2"
    pixels = torch.rand(1, 3, 224, 224) * 255
    mean, std = torch.tensor(metadata.mean), torch.tensor(metadata.std)
    expected = original((pixels / 255 - mean[:, None, None]) / std[:, None, None])
    assert torch.allclose(network(pixels)[0], expected, atol=1e-3)


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_import_rejects_code_and_other_files(tmp_path, capsys):
    torch.save({"state_dict": {}, "x": Trap()}, tmp_path / "trap.pth")
    assert code(import_upstream, tmp_path / "trap.pth", tmp_path / "o") == "corrupt"
    assert "executed" not in capsys.readouterr().out
    torch.save({"fc.weight": torch.zeros(2, 2048)}, tmp_path / "part.pth")
    assert code(import_upstream, tmp_path / "part.pth", tmp_path / "o") == "foreign"
    torch.save({"model": "text"}, tmp_path / "text.pth")
    assert code(import_upstream, tmp_path / "text.pth", tmp_path / "o") == "foreign"
    (tmp_path / "junk.pth").write_bytes(b"junk")
    assert code(import_upstream, tmp_path / "junk.pth", tmp_path / "o") == "corrupt"
    assert code(import_upstream, tmp_path / "none.pth", tmp_path / "o") == "missing"
    assert not (tmp_path / "o").exists()
