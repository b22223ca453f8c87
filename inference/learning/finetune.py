"""The upstream recipe: training of all layers end to end. It needs many patients and a fast machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from inference.engine.network import PatchNetwork
from inference.learning.augment import Strength, random_patch
from inference.learning.dataset import Sample, assert_disjoint, assert_no_demo, read_rgb
from inference.learning.features import grid_patches, imagenet_network, trunk_network
from inference.learning.folds import assign_folds, group_weights
from inference.learning.metrics import equal_group_weight, figures

Say = Callable[[str], None]


@dataclass(frozen=True)
class Upstream:
    """Adam 1e-4, batches of 32, 20 epochs, flips, rotations and colour jitter, learning rate halved on a plateau,
    early stopping. ``balanced`` samples groups and classes evenly instead of weighting the loss by class."""

    epochs: int = 20
    batch: int = 32
    rate: float = 1e-4
    patience: int = 5
    patches: int = 4
    balanced: bool = True
    seed: int = 0
    strength: Strength = field(default_factory=Strength)
    workers: int = 0


class RandomPatches(Dataset[tuple[torch.Tensor, int]]):
    """``recipe.patches`` random patches per image and epoch: pixels uint8 (3, 224, 224) and label."""

    def __init__(self, samples: Sequence[Sample], recipe: Upstream, epoch: int) -> None:
        self.samples, self.recipe, self.epoch = samples, recipe, epoch

    def __len__(self) -> int:
        return len(self.samples) * self.recipe.patches

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        sample = self.samples[item // self.recipe.patches]
        random = np.random.default_rng((self.recipe.seed, self.epoch, item))
        patch = random_patch(read_rgb(sample.path), random, self.recipe.strength)
        return torch.from_numpy(patch).permute(2, 0, 1), sample.label


@torch.inference_mode()
def predict(network: PatchNetwork, samples: Sequence[Sample], device: str, batch: int = 32) -> np.ndarray:
    """Raw malignant probability of each image (N,): the mean over patches weighted by tissue; 0.5 without tissue."""
    network.eval()
    out = np.full(len(samples), 0.5)
    for index in range(len(samples)):
        cut = list(grid_patches(samples, [index]))
        patches = [torch.from_numpy(pixels).permute(2, 0, 1) for _, pixels, _ in cut]
        parts = [
            network(torch.stack(patches[i : i + batch]).to(device).float())[0].softmax(1)[:, 1].cpu()
            for i in range(0, len(cut), batch)
        ]
        if cut:
            out[index] = np.average(torch.cat(parts).numpy(), weights=[share for *_, share in cut])
    return out


def fit(
    network: PatchNetwork, samples: Sequence[Sample], out: Path, recipe: Upstream, say: Say = print
) -> list[dict[str, float]]:
    """Train in place, resuming from ``out``. A fifth of the groups is held out for validation, and the weights of the
    epoch with the lowest validation loss are kept.

    Returns for each epoch the training loss, the validation loss and the weighted validation AUC.
    """
    assert_no_demo(samples)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(recipe.seed)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
    folds = assign_folds(samples, 5, recipe.seed)
    training = [sample for sample in samples if folds[sample.group] != 0]
    held = [sample for sample in samples if folds[sample.group] == 0]
    assert_disjoint(training, held)
    weights = group_weights(training)
    share = np.array([sum(sample.label == c for sample in training) for c in (0, 1)]) / len(training)
    loss_of = nn.CrossEntropyLoss(None if recipe.balanced else torch.tensor(0.5 / share).float().to(device))
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.rate)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2)
    curve: list[dict[str, float]] = []
    best, state, since = np.inf, {k: v.clone() for k, v in network.state_dict().items()}, 0
    resume = out / "resume.pt"
    if resume.exists():
        kept = torch.load(resume, map_location=device, weights_only=True)
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        plateau.load_state_dict(kept["plateau"])
        curve, best, state, since = kept["curve"], kept["best"], kept["state"], kept["since"]
    for epoch in range(len(curve), recipe.epochs):
        if since > recipe.patience:
            break
        started, total, seen = time.monotonic(), 0.0, 0
        data = RandomPatches(training, recipe, epoch)
        drawn = WeightedRandomSampler(
            np.repeat(weights, recipe.patches).tolist(),
            len(data),
            generator=torch.Generator().manual_seed(epoch),
        )
        loader = DataLoader(data, recipe.batch, sampler=drawn if recipe.balanced else None,
                            shuffle=not recipe.balanced, num_workers=recipe.workers, drop_last=True)  # fmt: skip
        network.train()
        for pixels, labels in loader:
            optimiser.zero_grad(set_to_none=True)
            loss = loss_of(network(pixels.to(device).float())[0], labels.to(device))
            loss.backward()
            optimiser.step()
            total, seen = total + loss.item() * len(labels), seen + len(labels)
        p = np.clip(predict(network, held, device), 1e-6, 1 - 1e-6)
        label = np.array([sample.label for sample in held], dtype=float)
        weight = equal_group_weight(label, np.array([sample.group for sample in held]))
        loss_held = float(-np.average(label * np.log(p) + (1 - label) * np.log(1 - p), weights=weight))
        curve.append({"epoch": epoch, "loss": total / max(seen, 1), "held_loss": loss_held,
                      "held_auc": figures(label, p, weight)["auc"]})  # fmt: skip
        plateau.step(loss_held)
        since += 1
        if loss_held < best:
            best, since = loss_held, 0
            state = {k: v.clone() for k, v in network.state_dict().items()}
        say(f"epoch {epoch}: {curve[-1]} ({time.monotonic() - started:.0f} s)")
        out.mkdir(parents=True, exist_ok=True)
        torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "since": since,
                    "plateau": plateau.state_dict(), "curve": curve, "best": best, "state": state}, resume)  # fmt: skip
    network.load_state_dict(state)
    return curve


def train(
    samples: Sequence[Sample], weights: Path, out: Path, recipe: Upstream, version: str, say: Say = print
) -> Path:
    """Fine-tune all layers and write an uncalibrated checkpoint to ``out``; returns its path.

    ``weights`` are those of ``features.trunk_network``; with the ImageNet weights, layer 4 starts randomly.
    """
    from dataclasses import replace

    from inference.engine.checkpoint import save
    from inference.learning.training import record

    initial = trunk_network if weights.is_file() else imagenet_network
    network, metadata = initial(weights, version=version)
    started = time.monotonic()
    curve = fit(network, samples, out, recipe, say)
    notes = record(samples, recipe, time.monotonic() - started)
    metadata = replace(metadata, training=notes, metrics={"learning_curve": curve})
    path = out / f"{metadata.name}-upstream-v{version}.safetensors"
    say(f"{path}\nsha256 " + save(path, {k: v.cpu().numpy() for k, v in network.state_dict().items()}, metadata))
    return path
