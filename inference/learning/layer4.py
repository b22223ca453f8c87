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


def open_upper_half(network: PatchNetwork) -> None:
    """Set layer 4 so that its first 1,024 outputs are layer 3 and stay so, and the other 1,024 can be learned.

    The pooled features of a plain ResNet50 are then those of layer 3 and of layer 4 side by side. The upper half starts
    from fresh weights; :func:`keep_lower_half` keeps the lower one while it is trained.
    """
    hand_on(network)
    with torch.no_grad():
        for block in network.layer4:
            block.bn3.weight[INHERITED:] = 1
        shortcut, _ = network.layer4[0].downsample
        upper = torch.empty(FEATURES - INHERITED, INHERITED, 1, 1)
        nn.init.kaiming_normal_(upper, mode="fan_out", nonlinearity="relu")
        shortcut.weight[INHERITED:] = upper


def is_handed_on(network: PatchNetwork) -> bool:
    """Whether the first 1,024 outputs of layer 4 are layer 3."""
    shortcut, _ = network.layer4[0].downsample
    identity = torch.equal(shortcut.weight[:INHERITED, :, 0, 0], torch.eye(INHERITED))
    return identity and not any(block.bn3.weight[:INHERITED].any() for block in network.layer4)


def keep_lower_half(network: PatchNetwork) -> None:
    """Mask gradients so that training leaves the handed-on half of layer 4 as it is."""

    def upper_only(gradient: Tensor) -> Tensor:
        masked = gradient.clone()
        masked[:INHERITED] = 0
        return masked

    shortcut, norm = network.layer4[0].downsample
    fixed = [shortcut.weight, norm.weight, norm.bias]
    for block in network.layer4:
        fixed += [block.bn3.weight, block.bn3.bias]
    for parameter in fixed:
        parameter.register_hook(upper_only)


def close_upper_half(network: PatchNetwork) -> None:
    """Close all branches of layer 4 and zero what is not handed on: the network then costs no layer 4."""
    hand_on(network)


def clear_closed_branches(network: PatchNetwork) -> None:
    """Zero the convolutions of layer-4 branches that are still closed: they reach nothing, and zeros pack well.

    Of a branch that is open for a part of its outputs, the filters of the closed ones are zeroed.
    """
    with torch.no_grad():
        for block in network.layer4:
            closed = (block.bn3.weight == 0) & (block.bn3.bias == 0)
            block.conv3.weight[closed] = 0
            block.bn3.running_mean[closed] = 0
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
