"""Every runtime agrees with the reference."""

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from inference.engine.checkpoint import CheckpointError, Metadata, load_arrays, read_metadata, save
from inference.engine.runtime import BATCH_SIZE, MAX_STREAMS, Device, OpenVinoRuntime, Runtime, TorchRuntime, load

PIXELS = np.random.default_rng(3).integers(0, 256, (BATCH_SIZE, 224, 224, 3), dtype=np.uint8)


def checkpoint(path: Path, **variant: str) -> Path:
    """Random weights and BatchNorm statistics in one of the architecture's variants."""
    import torch

    from inference.engine.network import build

    torch.manual_seed(11)
    metadata = Metadata(name="random", version="0", **variant)
    network = build(metadata)
    random = np.random.default_rng(5)
    arrays = {}
    for name, tensor in network.state_dict().items():
        array = tensor.numpy()
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight")):
            array = random.uniform(0.6, 1.4, array.shape).astype(np.float32)
        elif name.endswith(("running_mean", ".bias")):
            array = random.normal(0, 0.1, array.shape).astype(np.float32)
        arrays[name] = array
    save(path, arrays, metadata)
    return path


@pytest.mark.parametrize(("stride_in", "stem_pool"), [("conv1", "ceil"), ("conv2", "padded")])
def test_openvino_agrees_with_torch(tmp_path: Path, stride_in: str, stem_pool: str) -> None:
    path = checkpoint(tmp_path / "model.safetensors", stride_in=stride_in, stem_pool=stem_pool)
    expected = TorchRuntime(path).infer(PIXELS)
    found = OpenVinoRuntime(path).infer(PIXELS)
    for ours, reference in zip(found, expected, strict=True):
        assert ours.shape == reference.shape
        assert ours == pytest.approx(reference, rel=1e-3, abs=1e-3 * float(np.abs(reference).max()))


@pytest.mark.parametrize("device", ["bf16", "torch-bf16"])
def test_bf16_agrees_approximately(random_checkpoint: Path, device: Device) -> None:
    """Without bf16 support OpenVINO would silently use fp32, so this is an error."""
    reference = TorchRuntime(random_checkpoint).infer(PIXELS)
    if device == "bf16" and "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(CheckpointError, match="no bf16 on this processor"):
            load(random_checkpoint, device)
        return
    runtime = load(random_checkpoint, device)
    assert runtime.name in ("openvino-cpu-bf16", "torch-cpu-bf16")
    for ours, expected in zip(runtime.infer(PIXELS), reference, strict=True):
        assert ours == pytest.approx(expected, abs=0.05 * float(np.abs(expected).max()))


def test_folding_batchnorm_changes_nothing(random_checkpoint: Path) -> None:
    import torch

    from inference.engine.network import fold_batchnorm, from_checkpoint

    network, _ = from_checkpoint(random_checkpoint)
    folded = fold_batchnorm(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        pixels = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float()
        for ours, expected in zip(folded(pixels), network(pixels), strict=True):
            assert ours.numpy() == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-3)


def test_skipping_closed_branches_changes_nothing(tmp_path: Path, random_checkpoint: Path) -> None:
    arrays = load_arrays(random_checkpoint)
    for block in range(3):
        arrays[f"layer4.{block}.bn3.weight"] *= 0
        arrays[f"layer4.{block}.bn3.bias"] *= 0
    path = tmp_path / "closed.safetensors"
    save(path, arrays, read_metadata(random_checkpoint)[0])
    expected, found = TorchRuntime(path).infer(PIXELS), OpenVinoRuntime(path).infer(PIXELS)
    for ours, reference in zip(found, expected, strict=True):
        assert ours == pytest.approx(reference, rel=1e-3, abs=1e-3 * float(np.abs(reference).max()))


def test_a_checkpoint_without_a_layer_is_rejected(tmp_path: Path, random_checkpoint: Path) -> None:
    arrays = load_arrays(random_checkpoint)
    del arrays["layer3.2.conv2.weight"]
    path = tmp_path / "incomplete.safetensors"
    save(path, arrays, read_metadata(random_checkpoint)[0])
    for kind in (OpenVinoRuntime, TorchRuntime):
        with pytest.raises(CheckpointError) as caught:
            kind(path)
        assert caught.value.code == "foreign"


@pytest.fixture(scope="module", params=["cpu", "torch"])
def runtime(request: pytest.FixtureRequest, random_checkpoint: Path) -> Runtime:
    return load(random_checkpoint, request.param)


def test_the_same_batch_gives_identical_outputs(runtime: Runtime) -> None:
    first, second = runtime.infer(PIXELS), runtime.infer(PIXELS)
    assert [array.tobytes() for array in first] == [array.tobytes() for array in second]


def test_outputs_do_not_depend_on_the_position_in_a_batch(runtime: Runtime) -> None:
    straight, _ = runtime.infer(PIXELS)
    turned, _ = runtime.infer(PIXELS[::-1].copy())
    assert straight.tobytes() == turned[::-1].tobytes()


def test_the_mean_of_the_activation_map_is_the_logit(runtime: Runtime) -> None:
    logits, cams = runtime.infer(PIXELS)
    assert cams.shape == (BATCH_SIZE, 2, 7, 7)
    assert cams.mean(axis=(2, 3)) == pytest.approx(logits, abs=1e-4)


@pytest.mark.parametrize(("threads", "networks"), [(1, 1), (2, 2), (5, 5), (8, MAX_STREAMS)])
def test_there_is_one_network_of_one_stream_for_each_core(random_checkpoint: Path, threads: int, networks: int) -> None:
    runtime = OpenVinoRuntime(random_checkpoint, threads)
    assert runtime.streams == networks
    compiled = [request.get_compiled_model() for request in runtime._requests]
    assert {int(one.get_property("NUM_STREAMS")) for one in compiled} == {1}
    assert len({id(one) for one in compiled}) == networks
    said = [runtime._run(request, PIXELS)[0].tobytes() for request in runtime._requests]
    assert len(set(said)) == 1


def test_an_unknown_device_is_rejected(random_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="auto, cpu, cuda, int8"):
        load(random_checkpoint, "tpu")  # type: ignore[arg-type]
