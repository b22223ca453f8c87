"""Layer 4 as a bypass that passes layer 3 through, its optional trainable half, and the linear head of the network.

In a bypassed layer 4, the residual branches are closed (they add zero) and the shortcut is the identity.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from inference.engine.network import FEATURES, PatchNetwork

#: Outputs of layer 3, which become the first outputs of a bypassed layer 4.
INHERITED = 1024


def bypass_layer4(network: PatchNetwork) -> None:
    """Set layer 4 so that its first 1,024 outputs are those of layer 3 at every second position, and the others zero.

    The outputs of layer 3 are not negative, so the ReLUs of layer 4 have no effect. The residual branches keep their
    random convolutions but end in a BatchNorm with weight zero (Goyal et al. 2017), from which training can open them.
    """
    layer = network.layer4
    with torch.no_grad():
        for block in layer:
            nn.init.zeros_(block.bn3.weight)
            nn.init.zeros_(block.bn3.bias)
        convolution, norm = layer[0].downsample
        convolution.weight.zero_()
        convolution.weight[:INHERITED, :, 0, 0] = torch.eye(INHERITED)
        # Makes the BatchNorm of the shortcut an exact identity in evaluation mode.
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.zero_()


def open_upper_half(network: PatchNetwork) -> None:
    """Set layer 4 so that its first 1,024 outputs are those of layer 3, and the other 1,024 can be trained.

    The pooled features then combine layer 3 (lower half) and layer 4 (upper half). The upper half starts from random
    weights; use :func:`keep_lower_half` to keep the lower half unchanged in training.
    """
    bypass_layer4(network)
    with torch.no_grad():
        for block in network.layer4:
            block.bn3.weight[INHERITED:] = 1
        shortcut, _ = network.layer4[0].downsample
        upper = torch.empty(FEATURES - INHERITED, INHERITED, 1, 1)
        nn.init.kaiming_normal_(upper, mode="fan_out", nonlinearity="relu")
        shortcut.weight[INHERITED:] = upper


def bypasses_layer4(network: PatchNetwork) -> bool:
    """Whether the first 1,024 outputs of layer 4 are those of layer 3."""
    shortcut, _ = network.layer4[0].downsample
    identity = torch.equal(shortcut.weight[:INHERITED, :, 0, 0], torch.eye(INHERITED))
    return identity and not any(block.bn3.weight[:INHERITED].any() for block in network.layer4)


def keep_lower_half(network: PatchNetwork) -> None:
    """Mask gradients so that training does not change the lower half of layer 4."""

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
    """Bypass layer 4 again, including its upper half. The OpenVINO graph then skips the closed branches."""
    bypass_layer4(network)


def clear_closed_branches(network: PatchNetwork) -> None:
    """Zero the weights of closed residual branches in layer 4. They have no effect, and zeros compress well.

    In a branch with only some closed outputs, the filters of these outputs are zeroed.
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
    """Pooled features float32 (N, 1024) of a bypassed layer 4, from layer-3 outputs (N, 14, 14, 1024)."""
    return np.asarray(layer3[:, ::2, ::2], dtype=np.float32).mean((1, 2))


def set_head(network: PatchNetwork, weight: np.ndarray, bias: float) -> None:
    """Set the two-class head from a binary linear classifier, logit = weight · features + bias, half for each class.

    ``weight`` is (K,) with K <= 2048; the other features get weight 0.
    """
    full = np.zeros(FEATURES)
    full[: len(weight)] = weight
    half = torch.from_numpy(full / 2).float()
    with torch.no_grad():
        network.fc.weight.copy_(torch.stack([-half, half]))
        network.fc.bias.copy_(torch.tensor([-bias / 2, bias / 2]))


def difference(logits: Tensor) -> Tensor:
    """Malignant minus benign logit, (N,), from logits (N, 2)."""
    return logits[:, 1] - logits[:, 0]
