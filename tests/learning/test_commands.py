"""The commands train, evaluate and model, and their errors."""

import json
import shutil

import numpy as np
import pytest
import torch
from django.core.management import CommandError, call_command
from PIL import Image

from inference import registry
from inference.engine.checkpoint import Metadata, read_metadata
from inference.engine.network import build
from inference.learning import finetune, training
from inference.learning.augment import Strength
from inference.learning.dataset import Sample
from inference.learning.evaluation import read_folds
from inference.management.commands.evaluate import RECORD
from inference.models import ModelVersion
from tests.conftest import BUNDLED


@pytest.fixture
def model_dir(tmp_path, settings):
    settings.MODEL_DIR = tmp_path / "models"
    settings.MODEL_DIR.mkdir()
    return settings.MODEL_DIR


@pytest.fixture
def serving(db, model_dir, random_checkpoint):
    """A registry with one active version."""
    shutil.copy(random_checkpoint, model_dir / "old.safetensors")
    model = registry.add(model_dir / "old.safetensors")
    registry.activate(model)
    return model


def active():
    return ModelVersion.objects.get(is_active=True)


def test_model_add_list_activate(serving, model_dir, tmp_path, capsys):
    network = build(Metadata("m", "1"))
    state = network.state_dict()
    torch.save({"model_state_dict": state}, tmp_path / "best.pth")
    call_command("model", "add", str(tmp_path / "best.pth"), "--name", "theirs")
    assert active() == serving
    theirs = ModelVersion.objects.get(name="theirs")
    call_command("model", "activate", theirs.sha256[:10])
    assert active() == theirs
    capsys.readouterr()
    call_command("model", "list")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("*") for line in lines) == 1
    assert any(line.startswith("*") and "theirs 1" in line for line in lines)


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
def test_rejected_checkpoints_leave_the_old_one_active(serving, tmp_path, damage, random_checkpoint):
    bad, before = tmp_path / "bad.safetensors", ModelVersion.objects.count()
    if damage == "cut":
        bad.write_bytes(random_checkpoint.read_bytes()[:1_000_000])
    elif damage == "text":
        bad.write_text("not a model " * 100)
    else:
        from safetensors.numpy import save_file

        save_file({"x": np.zeros(3)}, bad)
    with pytest.raises(CommandError, match="Rejected"):
        call_command("model", "add", str(bad))
    assert active() == serving and ModelVersion.objects.count() == before


def test_a_file_that_changed_is_not_activated(serving, model_dir, tmp_path):
    network = build(Metadata("m", "1"))
    torch.save(network.state_dict(), tmp_path / "new.pth")
    call_command("model", "add", str(tmp_path / "new.pth"))
    path = model_dir / "new.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    new = ModelVersion.objects.get(file="new.safetensors")
    with pytest.raises(CommandError, match="checksum"):
        call_command("model", "activate", new.sha256)
    assert active() == serving


def test_activate_needs_one_version(serving):
    with pytest.raises(CommandError, match="0 versions"):
        call_command("model", "activate", "ffff0000")


@pytest.mark.skipif(not BUNDLED, reason="no bundled checkpoint")
def test_the_record_matches_the_bundled_model(capsys):
    """The bundled model's calibration, thresholds and metrics follow from the stored predictions."""
    metadata, digest = read_metadata(BUNDLED[-1])
    predictions = training.read_predictions(RECORD / "predictions.csv")
    again = training.calibrated(metadata, predictions)
    assert again.calibration == pytest.approx(metadata.calibration, abs=1e-3)
    assert (again.cut_low, again.cut_high) == (metadata.cut_low, metadata.cut_high)
    shipped, now = metadata.metrics["out_of_fold"], again.metrics["out_of_fold"]
    assert now["breakhis"] == pytest.approx(shipped["breakhis"], abs=1e-3)
    assert set(read_folds(RECORD / "folds.json")) == set(metadata.training["groups"])
    call_command("evaluate", replicates=20)
    out = capsys.readouterr().out
    assert digest in out and f"{now['breakhis']['auc']:.3f}" in out
    card = (RECORD / "card.md").read_text()
    assert digest in card and f"{now['breakhis']['auc']:.3f}" in card


@pytest.mark.skipif(not BUNDLED, reason="no bundled checkpoint")
def test_the_recipe_of_the_bundled_model_can_be_run_again():
    recipe = training.recipe_of(read_metadata(BUNDLED[-1])[0])
    assert recipe.scales and recipe.part.stop in (None, 1024)
    with pytest.raises(ValueError, match="recipe"):
        training.recipe_of(Metadata("m", "1"))


def test_evaluate_rejects_a_record_with_a_leak(tmp_path):
    shutil.copytree(RECORD, tmp_path / "record")
    folds = json.loads((RECORD / "folds.json").read_text())
    group = next(iter(folds))
    (tmp_path / "record" / "folds.json").write_text(json.dumps(folds | {group: (folds[group] + 1) % 5}))
    with pytest.raises(CommandError, match="fold"):
        call_command("evaluate", record=tmp_path / "record")


def test_train_says_what_is_missing(tmp_path):
    with pytest.raises(CommandError, match="--data"):
        call_command("train", data=tmp_path, out=tmp_path)
    with pytest.raises(CommandError, match="BreakHis"):
        call_command("train", breakhis=tmp_path, out=tmp_path)


@pytest.mark.slow
def test_fine_tuning_learns_and_can_resume(tmp_path):
    """The label of these images follows from their colour, so a few steps lower the loss; a second call resumes."""
    random, samples = np.random.default_rng(0), []
    for index in range(10):
        label = index % 2
        path = tmp_path / f"{index}.png"
        colour = np.array([(200, 90, 160), (110, 60, 140)][label])
        Image.fromarray((colour + random.integers(0, 20, (224, 224, 3))).astype(np.uint8)).save(path)
        samples.append(Sample(path, path.name, "breakhis", label, "", f"g{index}", "40X"))
    torch.manual_seed(0)
    network = build(Metadata("m", "1"))
    recipe = finetune.Upstream(epochs=1, batch=4, patches=1, strength=Strength(stain=0, channel=0, blur=0, jpeg=100))
    first = finetune.fit(network, samples, tmp_path / "run", recipe, lambda _: None)
    assert [one["epoch"] for one in first] == [0] and np.isfinite(first[0]["loss"])
    both = finetune.fit(
        build(Metadata("m", "1")), samples, tmp_path / "run",
        finetune.Upstream(epochs=2, batch=4, patches=1, strength=recipe.strength), lambda _: None,
    )  # fmt: skip
    assert [one["epoch"] for one in both] == [0, 1] and both[0] == first[0]
