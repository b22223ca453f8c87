"""A layer 4 that starts by handing layer 3 on unchanged, and a linear head folded into the network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from inference.engine.network import FEATURES, PatchNetwork

INHERITED = 1024


def hand_on(network: PatchNetwork) -> None:
    """Set layer 4 so that its first 1,024 outputs are layer 3 at every second position, the others zero.

    Layer 3 ends in a ReLU, so the ReLUs of layer 4 change nothing. The residual branches keep their random
    convolutions but end in a BatchNorm of weight zero (Goyal et al. 2017): training opens them from there.
    """
    layer = network.layer4
    with torch.no_grad():
        for block in layer:
            nn.init.zeros_(block.bn3.weight)
            nn.init.zeros_(block.bn3.bias)
        convolution, norm = layer[0].downsample
        convolution.weight.zero_()
        convolution.weight[:INHERITED, :, 0, 0] = torch.eye(INHERITED)
        # Undo the normalisation exactly, so that the identity stays one in evaluation mode.
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.zero_()


def clear_closed_branches(network: PatchNetwork) -> None:
    """Zero the convolutions of layer-4 branches that are still closed: they reach nothing, and zeros pack well."""
    with torch.no_grad():
        for block in network.layer4:
            if not block.bn3.weight.any() and not block.bn3.bias.any():
                for convolution in (block.conv1, block.conv2, block.conv3):
                    convolution.weight.zero_()


def pooled(layer3: np.ndarray) -> np.ndarray:
    """What :func:`hand_on` pools from layer-3 maps (N, 14, 14, 1024): float32 (N, 1024)."""
    return np.asarray(layer3[:, ::2, ::2], dtype=np.float32).mean((1, 2))


def set_head(network: PatchNetwork, weight: np.ndarray, bias: float) -> None:
    """Put a binary linear rule logit = weight . features + bias into the two-class head, half to each class.

    ``weight`` is (K,) with K <= 2048; features beyond K get no weight.
    """
    full = np.zeros(FEATURES)
    full[: len(weight)] = weight
    half = torch.from_numpy(full / 2).float()
    with torch.no_grad():
        network.fc.weight.copy_(torch.stack([-half, half]))
        network.fc.bias.copy_(torch.tensor([-bias / 2, bias / 2]))


def difference(logits: Tensor) -> Tensor:
    """Malignant minus benign logit, (N,) of (N, 2)."""
    return logits[:, 1] - logits[:, 0]
