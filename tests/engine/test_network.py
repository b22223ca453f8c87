import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from inference.engine.checkpoint import CheckpointError, Metadata, save
from inference.engine.network import build, from_checkpoint, load_state


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), dtype=np.uint8))


def test_equals_torchvision_on_normalised_input(pixels):
    torch.manual_seed(0)
    metadata = Metadata("m", "1")
    network = build(metadata)
    reference = resnet50(weights=None)
    reference.fc = torch.nn.Linear(2048, 2)
    reference.load_state_dict(network.state_dict(), strict=False)
    mean, std = (torch.tensor(v)[:, None, None] for v in (metadata.mean, metadata.std))
    with torch.inference_mode():
        expected = reference.eval()((pixels.float() / 255 - mean) / std)
        logits, _ = network(pixels)
    assert torch.allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize(("stride", "pool"), [("conv1", "ceil"), ("conv2", "padded")])
def test_mean_of_activation_map_is_the_logit(pixels, stride, pool):
    torch.manual_seed(1)
    network = build(Metadata("m", "1", stride_in=stride, stem_pool=pool))
    with torch.inference_mode():
        logits, cam = network(pixels)
    assert logits.shape == (2, 2) and cam.shape == (2, 2, 7, 7)
    assert torch.allclose(cam.mean((2, 3)), logits, atol=1e-5)


def test_variants_differ_only_in_stride_and_pool():
    v1, v15 = build(Metadata("m", "1", stride_in="conv1", stem_pool="ceil")), build(Metadata("m", "1"))
    assert v1.layer4[0].conv1.stride == v15.layer4[0].conv2.stride == (2, 2)
    assert v1.layer4[0].conv2.stride == v15.layer4[0].conv1.stride == (1, 1)
    assert v1.maxpool.ceil_mode and v15.maxpool.padding == 1
    assert v1.layer1[0].conv1.stride == (1, 1)


def test_round_trip_through_a_file(tmp_path, pixels):
    metadata = Metadata("m", "1", stride_in="conv1", stem_pool="ceil")
    network = build(metadata)
    save(tmp_path / "m", {name: value.numpy() for name, value in network.state_dict().items()}, metadata)
    again, read = from_checkpoint(tmp_path / "m")
    assert read == metadata and not again.training
    with torch.inference_mode():
        assert torch.allclose(again(pixels)[0], network(pixels)[0], atol=2e-2)


def test_arrays_of_another_network_are_rejected():
    network = build(Metadata("m", "1"))
    for arrays in ({"fc.weight": np.zeros((3, 2048))}, {"vgg.weight": np.zeros(3)}, {}):
        with pytest.raises(CheckpointError) as error:
            load_state(network, arrays)
        assert error.value.code == "foreign"
