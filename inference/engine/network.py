"""The network in PyTorch: a ResNet50 with a two-class linear head and its class activation map.

He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016; class activation map: Zhou et al., CVPR 2016.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import resnet50

from inference.engine.checkpoint import CheckpointError, Metadata, load_arrays, read_metadata

FEATURES = 2048


class PatchNetwork(nn.Module):
    """ResNet50 for patches, including the normalisation of its input.

    Its state-dict keys are torchvision's (``conv1.weight`` ... ``fc.bias``).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, metadata: Metadata) -> None:
        super().__init__()
        trunk = resnet50(weights=None)
        self.conv1, self.bn1, self.relu = trunk.conv1, trunk.bn1, trunk.relu
        self.maxpool = stem_pool(metadata.stem_pool)
        self.layer1, self.layer2 = trunk.layer1, trunk.layer2
        self.layer3, self.layer4 = trunk.layer3, trunk.layer4
        if metadata.stride_in == "conv1":
            for layer in (self.layer2, self.layer3, self.layer4):
                stride_in_conv1(layer)
        self.fc = nn.Linear(FEATURES, len(metadata.classes))
        self.register_buffer("mean", torch.tensor(metadata.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(metadata.std).view(1, 3, 1, 1) * 255, persistent=False)

    def trunk(self, pixels: Tensor) -> Tensor:
        """Output of layer 3, (N, 1024, 14, 14), for pixels (N, 3, 224, 224), 0..255."""
        x = (pixels.to(self.mean.dtype) - self.mean) / self.std
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer3(self.layer2(self.layer1(x)))

    def head(self, layer3: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 2) and class activation maps (N, 2, 7, 7) for an output of layer 3, (N, 1024, 14, 14)."""
        features = self.layer4(layer3)
        cam = nn.functional.conv2d(features, self.fc.weight[:, :, None, None], self.fc.bias)
        return self.fc(features.mean((2, 3))), cam

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 2) and class activation maps (N, 2, 7, 7) for RGB pixels (N, 3, 224, 224), uint8 or float, 0..255.

        Pooling and head are linear, so the spatial mean of a map equals the logit up to rounding.
        """
        return self.head(self.trunk(pixels))


def stem_pool(variant: str) -> nn.MaxPool2d:
    """The max pool after ``conv1``: ``ceil`` (the original Caffe network) or ``padded`` (torchvision)."""
    if variant == "ceil":
        return nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)
    return nn.MaxPool2d(3, 2, padding=1)


def stride_in_conv1(layer: nn.Module) -> None:
    """Move the stride of a layer's first bottleneck from its 3x3 to its first 1x1 convolution, as in the v1 network."""
    block = layer[0]  # type: ignore[index]  # torch types no Sequential here
    block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def fold_batchnorm(network: PatchNetwork) -> PatchNetwork:
    """A copy of a network in evaluation mode with every BatchNorm folded into the convolution before it."""
    network = deepcopy(network).eval()
    for module in [network, *network.modules()]:
        pairs = [(f"conv{n}", f"bn{n}") for n in (1, 2, 3)] + [("0", "1")]
        for conv, norm in pairs:
            before, after = getattr(module, conv, None), getattr(module, norm, None)
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(before, after))
                setattr(module, norm, nn.Identity())
    return network


def build(metadata: Metadata) -> PatchNetwork:
    """A randomly initialised network in evaluation mode, of the variant that the metadata describes."""
    return PatchNetwork(metadata).eval()


def load_state(network: PatchNetwork, arrays: dict[str, np.ndarray], *, partial: bool = False) -> None:
    """Load arrays of any float dtype into the network, as fp32.

    With ``partial``, weights whose key is missing stay unchanged (an ImageNet trunk without layer 4). Raises
    CheckpointError (``foreign``) for a key or shape that does not match the network.
    """
    state = {name: torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in arrays.items()}
    own = network.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    unknown = sorted(set(state) - set(own))
    missing = sorted(set(own) - set(state) - counters)
    shapes = sorted(name for name in set(state) & set(own) if state[name].shape != own[name].shape)
    if unknown or shapes or (missing and not partial):
        names = ", ".join((unknown + shapes + ([] if partial else missing))[:3])
        raise CheckpointError("foreign", f"The checkpoint is not a two-class ResNet50 (first differences: {names}).")
    network.load_state_dict(state, strict=False, assign=True)


def from_checkpoint(path: Path | str) -> tuple[PatchNetwork, Metadata]:
    """Network and metadata of a checkpoint file. Raises CheckpointError as ``read_metadata`` and ``load_state`` do."""
    metadata, _ = read_metadata(path)
    network = build(metadata)
    load_state(network, load_arrays(path))
    return network, metadata
