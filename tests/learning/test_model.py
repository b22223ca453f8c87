"""The bypassed layer 4, the head, and cross-validation without leaks."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from inference.engine.checkpoint import Metadata
from inference.engine.network import build
from inference.learning import evaluation, training
from inference.learning.augment import Strength, random_patch, stain_jitter
from inference.learning.crossval import Patches, out_of_fold
from inference.learning.dataset import LeakError
from inference.learning.folds import assign_folds
from inference.learning.head import fit_head, patch_weights, slide_means
from inference.learning.layer4 import bypass_layer4, pooled, set_head


@pytest.fixture(scope="module")
def layer3():
    return torch.rand(3, 1024, 14, 14, generator=torch.Generator().manual_seed(0))


def test_a_bypassed_layer_4_passes_layer_3_through(layer3):
    torch.manual_seed(0)
    network = build(Metadata("m", "1", stride_in="conv1", stem_pool="ceil"))
    bypass_layer4(network)
    with torch.inference_mode():
        out = network.layer4(layer3)
    assert torch.allclose(out[:, :1024], layer3[:, :, ::2, ::2], atol=1e-5)
    assert not out[:, 1024:].any()
    assert np.allclose(out.mean((2, 3))[:, :1024], pooled(layer3.permute(0, 2, 3, 1).numpy()), atol=1e-5)


def test_the_network_reproduces_the_fitted_head(layer3):
    network = build(Metadata("m", "1", stride_in="conv1", stem_pool="ceil"))
    bypass_layer4(network)
    weight, bias = np.random.default_rng(0).normal(size=1024), 0.3
    set_head(network, weight, bias)
    with torch.inference_mode():
        logits, cam = network.head(layer3)
    expected = pooled(layer3.permute(0, 2, 3, 1).numpy()) @ weight + bias
    assert np.allclose((logits[:, 1] - logits[:, 0]).numpy(), expected, atol=1e-3)
    assert torch.allclose(cam.mean((2, 3)), logits, atol=1e-4)


def features_of(samples, signal=2.0, seed=0):
    random = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(samples)), 3)
    features = random.normal(size=(len(rows), 8))
    features[:, 0] += signal * np.array([samples[i].label for i in rows])
    return Patches(rows, features)


def test_the_head_agrees_with_sklearn(samples):
    patches = features_of(samples)
    head = fit_head(samples, patches.rows, patches.features, 1.0)
    mean, scale = patches.features.mean(0), patches.features.std(0) + 1e-3
    labels = np.array([samples[i].label for i in patches.rows])
    other = LogisticRegression(C=1.0 / len(labels), tol=1e-8).fit(
        (patches.features - mean) / scale, labels, sample_weight=patch_weights(samples, patches.rows)
    )
    assert head.probability(patches.features) == pytest.approx(
        other.predict_proba((patches.features - mean) / scale)[:, 1], abs=1e-3
    )


def test_slide_is_the_mean_of_its_patches():
    images, means = slide_means(np.array([4, 2, 4]), np.array([0.1, 0.7, 0.3]))
    assert images.tolist() == [2, 4] and means == pytest.approx([0.7, 0.2])


def test_out_of_fold_learns_what_is_there(samples):
    patches = features_of(samples, signal=3.0)
    folds = assign_folds(samples)
    predictions = out_of_fold(samples, patches, patches, folds, lambda _: None)
    assert len(predictions) == len(samples)
    assert np.mean([(o.p >= 0.5) == o.label for o in predictions]) > 0.85
    evaluation.check_record(predictions, folds)


def test_out_of_fold_cannot_use_a_group_that_it_predicts(samples):
    """Each group has its own feature that predicts its label, which is useless for held-out groups."""
    groups = sorted({s.group for s in samples})
    rows = np.arange(len(samples))
    features = np.zeros((len(samples), len(groups)))
    for i, s in enumerate(samples):
        features[i, groups.index(s.group)] += 4 * (2 * s.label - 1)
    patches = Patches(rows, features)
    predictions = out_of_fold(samples, patches, patches, assign_folds(samples), lambda _: None)
    accuracy = {c: np.mean([(o.p >= 0.5) == o.label for o in predictions if o.label == c]) for c in (0, 1)}
    assert sum(accuracy.values()) / 2 < 0.6


def test_predictions_round_trip_and_other_files_are_rejected(samples, tmp_path):
    patches = features_of(samples)
    folds = assign_folds(samples)
    predictions = out_of_fold(samples, patches, patches, folds, lambda _: None)
    training.write_predictions(tmp_path / "p.csv", predictions)
    again = training.read_predictions(tmp_path / "p.csv")
    assert [o.name for o in again] == [o.name for o in predictions]
    assert [o.p for o in again] == pytest.approx([o.p for o in predictions], abs=1e-5)
    moved = folds | {predictions[0].group: predictions[0].fold + 1}
    with pytest.raises(LeakError):
        evaluation.check_record(predictions, moved)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError):
        training.read_predictions(tmp_path / "other.csv")


def test_calibrated_metadata_is_valid(samples):
    patches = features_of(samples)
    predictions = out_of_fold(samples, patches, patches, assign_folds(samples), lambda _: None)
    metadata = training.calibrated(Metadata("m", "1"), predictions)
    metadata.validate()
    assert metadata.calibrated and metadata.cut_low <= 0.5 <= metadata.cut_high


def test_augmentation_is_repeatable_and_off_when_zero():
    rgb = np.random.default_rng(0).integers(40, 220, (300, 400, 3), dtype=np.uint8)
    one, two = (random_patch(rgb, np.random.default_rng(5), Strength()) for _ in range(2))
    assert one.shape == (224, 224, 3) and (one == two).all()
    still = stain_jitter(rgb, np.random.default_rng(0), Strength(stain=0, offset=0, channel=0))
    assert np.abs(still.astype(int) - rgb).max() <= 1
