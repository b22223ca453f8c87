"""Pre-training of layers 2 to 4 on H&E patches of other organs, before any breast field is seen.

Each data set has its own classifier, and all share one for tumour against other tissue. The same classifiers stand on
pooled layer 3 (deep supervision, Lee et al., AISTATS 2015) and on layer 4. The result is a trunk: a checkpoint whose
head is zero.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inference.engine import quantised
from inference.engine.checkpoint import save
from inference.engine.network import FEATURES, PatchNetwork
from inference.learning.augment import Strength
from inference.learning.features import trunk_network
from inference.learning.layer4 import (
    INHERITED,
    bypasses_layer4,
    clear_closed_branches,
    keep_lower_half,
    open_upper_half,
    set_head,
)
from inference.learning.metrics import weighted_auc
from inference.learning.pretraining_data import UNKNOWN, Batch, Source, batches, centre, read_patches, split

Say = Callable[[str], None]
#: Patches of a set that the validation of a checkpoint looks at; the last one looks at four times as many.
VALIDATED = 40
RESUME = "resume.pt"


@dataclass(frozen=True)
class Pretraining:
    """``minutes`` of wall-clock time, over which the learning rates follow a cosine after a warm-up.

    Layers up to ``frozen`` (1 or 2) stay as they are; ``rate`` is for those from there to layer 3, ``rate4`` for layer
    4 and the classifiers. ``layer3`` and ``tumour`` weigh the losses of deep supervision and of the common classifier.
    ``average`` is the decay of the averaged weights.
    """

    minutes: float = 60.0
    batch: int = 32
    size: int = 128
    frozen: int = 1
    smallest: float = 0.6
    rate: float = 1e-4
    rate4: float = 5e-4
    decay: float = 0.02
    smoothing: float = 0.05
    dropout: float = 0.2
    layer3: float = 0.5
    tumour: float = 0.5
    warm_up: float = 0.04
    average: float = 0.995
    seed: int = 0
    strength: Strength = field(default_factory=lambda: Strength(stain=0.3, offset=0.03, channel=0.12))


class Classifiers(nn.Module):
    """One linear classifier for each data set and one for tumour against other tissue, on pooled features (N, K)."""

    def __init__(self, width: int, classes: list[int], dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.own = nn.ModuleList([nn.Linear(width, count) for count in classes])
        self.tumour = nn.Linear(width, 2)

    def forward(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        features = self.dropout(self.norm(features))
        return [head(features) for head in self.own], self.tumour(features)


class Model(nn.Module):
    """The network with its classifiers; stem and layers up to ``frozen`` take part in no gradient."""

    def __init__(self, network: PatchNetwork, classes: list[int], recipe: Pretraining) -> None:
        super().__init__()
        self.network, self.frozen, dropout = network, recipe.frozen, recipe.dropout
        # Where layer 4 hands layer 3 on, the classifiers on layer 4 look at the other half.
        self.first = INHERITED if bypasses_layer4(network) else 0
        self.on_layer3 = Classifiers(INHERITED, classes, dropout)
        self.on_layer4 = Classifiers(FEATURES - self.first, classes, dropout)

    def forward(self, pixels: Tensor) -> tuple[tuple[list[Tensor], Tensor], tuple[list[Tensor], Tensor]]:
        """Logits of both sets of classifiers for pixels 0..255 (N, 3, H, W)."""
        n = self.network
        with torch.no_grad():
            x = (pixels.to(n.mean.dtype) - n.mean) / n.std
            x = n.layer1(n.maxpool(n.relu(n.bn1(n.conv1(x)))))
            if self.frozen == 2:
                x = n.layer2(x)
        if self.frozen == 1:
            x = n.layer2(x)
        x = n.layer3(x)
        pooled = n.layer4(x).mean((2, 3))
        return self.on_layer3(x[:, :, ::2, ::2].mean((2, 3))), self.on_layer4(pooled[:, self.first :])

    def learn(self) -> None:
        """Training mode, but BatchNorm as it is in layers 1 to 3 and in the short cut of layer 4."""
        self.train()
        self.network.eval()
        for block in self.network.layer4:
            for norm in (block.bn1, block.bn2, block.bn3):
                norm.train()


def loss_of(outputs: tuple[list[Tensor], Tensor], batch: Batch, recipe: Pretraining) -> Tensor:
    """Cross-entropy of each patch by its own set's classifier, and of the common one where the label is known."""
    own, tumour = outputs
    total, count = tumour.new_zeros(()), len(batch.dataset)
    for number, logits in enumerate(own):
        inside = np.flatnonzero(batch.dataset == number)
        if len(inside) and logits.shape[1] > 1:
            label = torch.from_numpy(batch.label[inside])
            total = total + nn.functional.cross_entropy(
                logits[inside], label, reduction="sum", label_smoothing=recipe.smoothing
            )
    known = np.flatnonzero(batch.tumour != UNKNOWN)
    if len(known):
        label = torch.from_numpy(batch.tumour[known])
        total = total + recipe.tumour * nn.functional.cross_entropy(
            tumour[known], label, reduction="sum", label_smoothing=recipe.smoothing
        )
    return total / count


def parameter_groups(model: Model, recipe: Pretraining) -> list[dict[str, Any]]:
    """What is trained up to layer 3 at ``rate``, the rest at ``rate4``.

    Norms, biases and the handed-on short cut have no weight decay.
    """
    shortcut = model.network.layer4[0].downsample[0].weight
    groups = []
    slow = [*model.network.layer3.parameters()]
    if recipe.frozen == 1:
        slow += model.network.layer2.parameters()
    fast = [*model.network.layer4.parameters(), *model.on_layer3.parameters(), *model.on_layer4.parameters()]
    for parameters, rate in ((slow, recipe.rate), (fast, recipe.rate4)):
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1 and p is not shortcut) == decays]
            groups.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": recipe.decay if decays else 0.0})
    return groups


def factor(progress: float, warm_up: float) -> float:
    """What the learning rates are multiplied by at ``progress`` 0..1 of the run."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, (progress - warm_up) / (1 - warm_up)))))


def tensor(pixels: np.ndarray) -> Tensor:
    """Pixels uint8 (N, H, W, 3) as float (N, 3, H, W), channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def validate(model: Model, source: Source, held: list[int], recipe: Pretraining, limit: int) -> dict[str, float]:
    """On groups held out: share of right answers of each set's classifiers, and AUC of the common one, on both layers.

    At most ``limit`` patches of each data set are looked at.
    """
    random = np.random.default_rng(0)
    chosen = []
    for number in range(len(source.datasets)):
        inside = [i for i in held if source.dataset[i] == number]
        chosen += random.permutation(inside)[:limit].astype(int).tolist()
    model.eval()
    found: dict[str, list[float]] = {}
    scores: dict[str, list[np.ndarray]] = {"layer3": [], "layer4": []}
    with torch.inference_mode():
        for at in range(0, len(chosen), 32):
            part = np.array(chosen[at : at + 32])
            outputs = model(tensor(np.stack([centre(source.pixels[i], recipe.size) for i in part])))
            for layer, (own, tumour) in zip(scores, outputs, strict=True):
                scores[layer].append(tumour.softmax(1)[:, 1].numpy())
                for row, i in enumerate(part):
                    logits = own[source.dataset[i]][row]
                    if len(logits) > 1:
                        name = f"{source.datasets[source.dataset[i]]}.{layer}"
                        found.setdefault(name, []).append(float(logits.argmax() == source.label[i]))
    figures = {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())}
    label = source.tumour[np.array(chosen)]
    known = label != UNKNOWN
    for layer, parts in scores.items():
        p = np.concatenate(parts)[known].astype(float)
        figures[f"tumour_auc.{layer}"] = round(weighted_auc(label[known], p, np.ones(len(p))), 4)
    model.learn()
    return figures


class Average:
    """Exponentially averaged copy of all weights and BatchNorm statistics."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            kept = self.state[name]
            if value.dtype.is_floating_point:
                kept.lerp_(value, 1 - decay)
            else:
                kept.copy_(value)


@dataclass
class Progress:
    """Where a run is: steps done, seconds of wall-clock time, and the figures of every checkpoint."""

    step: int = 0
    elapsed: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """A pre-training in ``out``: begun, or resumed from its last checkpoint."""

    def __init__(self, data: Path, weights: Path, out: Path, recipe: Pretraining, version: str, say: Say) -> None:
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.out, self.recipe, self.say = out, recipe, say
        # Mixed precision is 2.3 times as fast with AMX and slower than fp32 without.
        self.bf16 = quantised.has_amx_bf16()
        network, self.metadata = trunk_network(weights, name="histopath-trunk", version=version)
        if bypasses_layer4(network):
            if not network.layer4[0].downsample[0].weight[INHERITED:].any():
                open_upper_half(network)
            keep_lower_half(network)
        patches = read_patches(data)
        self.learned, self.held = split(patches)
        say(f"decoding {len(patches)} patches: {len(self.learned)} to learn from, {len(self.held)} held out")
        self.source = Source(patches)
        self.model = self._model(network)
        self.model.to(memory_format=torch.channels_last)
        for layer in (network.conv1, network.bn1, network.layer1, *([network.layer2] if recipe.frozen == 2 else [])):
            layer.requires_grad_(False)
        self.optimiser = torch.optim.AdamW(parameter_groups(self.model, recipe), fused=True)
        self.average = Average(self.model, recipe.average)
        self.progress = Progress()
        self.losses: list[float] = []
        if (out / RESUME).exists():
            kept = torch.load(out / RESUME, map_location="cpu", weights_only=True)
            self.model.load_state_dict(kept["model"])
            self.optimiser.load_state_dict(kept["optimiser"])
            self.average.state = kept["average"]
            self.progress = Progress(**kept["progress"])
            say(f"resumed at step {self.progress.step}, {self.progress.elapsed / 60:.1f} minutes")
        self.model.learn()

    def _model(self, network: PatchNetwork) -> Model:
        return Model(network, [len(self.source.classes[name]) for name in self.source.datasets], self.recipe)

    def step(self, batch: Batch) -> None:
        recipe = self.recipe
        done = self.progress.elapsed / (recipe.minutes * 60)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor(done, recipe.warm_up)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            on_layer3, on_layer4 = self.model(tensor(batch.pixels))
            loss = loss_of(on_layer4, batch, recipe) + recipe.layer3 * loss_of(on_layer3, batch, recipe)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        self.optimiser.step()
        self.average.update(self.model, self.progress.step)
        self.progress.step += 1
        self.losses.append(loss.item())

    def checkpoint(self, limit: int) -> Path:
        """Validate the averaged weights, write the trunk, its record and what is needed to resume."""
        averaged = deepcopy(self.model)
        averaged.load_state_dict(self.average.state)
        point = {
            "step": self.progress.step,
            "images": self.progress.step * self.recipe.batch,
            "minutes": round(self.progress.elapsed / 60, 1),
            "loss": round(float(np.mean(self.losses)), 4) if self.losses else None,
        } | validate(averaged, self.source, self.held, self.recipe, limit)
        self.losses.clear()
        self.progress.curve.append(point)
        self.say(json.dumps(point))
        notes = {
            "recipe": asdict(self.recipe),
            "precision": "bf16" if self.bf16 else "fp32",
            "patches": {name: int((self.source.dataset == i).sum()) for i, name in enumerate(self.source.datasets)},
            "start": self.metadata.training.get("trunk", "ResNet-50, ImageNet, layers 1 to 3 (He et al. 2016, MIT)"),
            "curve": self.progress.curve,
        }
        (self.out / "pretraining.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
        clear_closed_branches(averaged.network)
        set_head(averaged.network, np.zeros(1), 0.0)
        path = self.out / "pretrained.safetensors"
        arrays = {name: value.numpy() for name, value in averaged.network.state_dict().items()}
        save(path, arrays, replace(self.metadata, training=notes))
        temporary = self.out / f"{RESUME}.new"
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "average": self.average.state,
                "progress": asdict(self.progress),
            },
            temporary,
        )
        temporary.replace(self.out / RESUME)
        return path


def pretrain(
    data: Path, weights: Path, out: Path, recipe: Pretraining, version: str = "0", say: Say = print, every: float = 300
) -> Path:
    """Run or resume a pre-training; writes its checkpoint, record and ``resume.pt`` every ``every`` seconds.

    Returns the path of the trunk's checkpoint, ``pretrained.safetensors`` in ``out``. Raises FileNotFoundError where
    data or weights are missing.
    """
    run = Run(data, weights, out, recipe, version, say)
    progress = run.progress
    begun, saved = time.monotonic() - progress.elapsed, progress.elapsed
    stream = batches(
        run.source, run.learned, recipe.batch, recipe.size, recipe.strength, recipe.smallest, recipe.seed, progress.step
    )
    with closing(stream):
        while progress.elapsed < recipe.minutes * 60:
            run.step(next(stream))
            progress.elapsed = time.monotonic() - begun
            if progress.elapsed - saved >= every:
                run.checkpoint(VALIDATED)
                saved = progress.elapsed = time.monotonic() - begun
    return run.checkpoint(4 * VALIDATED)
