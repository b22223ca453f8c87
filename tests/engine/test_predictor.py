"""The predictor compared with a network of random weights that runs patch by patch."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference.engine import domain
from inference.engine.grid import Grid
from inference.engine.image import ImageError, encode_png
from inference.engine.network import from_checkpoint
from inference.engine.predictor import Job, JobCancelled, Predictor, softmax
from inference.engine.runtime import load


@pytest.fixture(scope="module")
def predictor(random_checkpoint: Path) -> Predictor:
    return Predictor(load(random_checkpoint))


def field(seed: int, width: int = 300, height: int = 230) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_softmax_matches_a_hand_calculation() -> None:
    probabilities = softmax(np.array([[0.0, np.log(3.0)], [1000.0, 0.0]], dtype=np.float32))
    assert probabilities == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]), abs=1e-7)


def test_patch_probabilities_are_those_of_the_network(predictor: Predictor, random_checkpoint: Path) -> None:
    rgb = field(0)
    prediction = predictor.predict(rgb)
    network, _ = from_checkpoint(random_checkpoint)
    for (x, y), found in zip(Grid(300, 230).positions, prediction.probabilities, strict=True):
        patch = torch.from_numpy(rgb[y : y + 224, x : x + 224].copy()).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            logits, _ = network.eval()(patch)
        assert found == pytest.approx(torch.softmax(logits, 1)[0].numpy(), abs=1e-4)
    assert prediction.verdict.raw_malignant == pytest.approx(prediction.probabilities[:, 1].mean(), abs=1e-7)


def test_results_are_identical_alone_and_among_other_images(predictor: Predictor) -> None:
    images = [field(seed, 300 + 40 * seed, 230) for seed in range(3)]
    alone = [predictor.predict(image) for image in images]
    jobs = [Job(number, lambda image=image: image) for number, image in enumerate(images)]
    together = list(predictor.run(jobs))
    assert [outcome.job.key for outcome in together] == [0, 1, 2]
    for outcome, single in zip(together, alone, strict=True):
        assert outcome.prediction is not None
        assert outcome.prediction.probabilities.tobytes() == single.probabilities.tobytes()
        assert outcome.prediction.activation.tobytes() == single.activation.tobytes()


def test_a_file_and_its_pixels_give_identical_results(predictor: Predictor) -> None:
    rgb = field(5)
    assert predictor.predict(encode_png(rgb)).probabilities.tobytes() == predictor.predict(rgb).probabilities.tobytes()


def test_progress_counts_every_patch_and_ends_complete(predictor: Predictor) -> None:
    seen: list[tuple[int, int]] = []
    predictor.predict(field(1, 500, 460), progress=lambda _, done, total: seen.append((done, total)))
    assert seen[-1] == (9, 9)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_a_job_that_fails_does_not_stop_the_others(predictor: Predictor) -> None:
    def broken() -> np.ndarray:
        raise ImageError("damaged", "is damaged")

    jobs = [Job("a", lambda: field(1)), Job("b", broken), Job("c", lambda: field(2))]
    outcomes = {outcome.job.key: outcome for outcome in predictor.run(jobs)}
    assert isinstance(outcomes["b"].error, ImageError)
    assert outcomes["a"].prediction
    assert outcomes["c"].prediction


def test_a_cancelled_job_stops(predictor: Predictor) -> None:
    seen: list[tuple[object, int]] = []

    def told(job: Job, done: int, total: int) -> None:
        seen.append((job.key, done))
        if job.key == "large":
            raise JobCancelled

    jobs = [Job("a", lambda: field(1)), Job("large", lambda: field(2, 1500, 1500), 0.5), Job("b", lambda: field(3))]
    outcomes = {outcome.job.key: outcome for outcome in predictor.run(jobs, told)}
    assert outcomes["a"].prediction and isinstance(outcomes["large"].error, JobCancelled)
    assert [key for key, _ in seen].count("large") == 1, "told once, and of no batch that was cut before"
    assert outcomes["b"].prediction is not None
    alone = predictor.predict(field(3))
    assert outcomes["b"].prediction.probabilities.tobytes() == alone.probabilities.tobytes()


def test_only_one_job_is_loaded_ahead(predictor: Predictor) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(4):
            taken.append(number)
            yield Job(number, lambda: field(1, 1344, 448))

    next(iter(predictor.run(jobs())))
    # One is done, one in the network, and one being loaded.
    assert taken == [0, 1, 2]


def test_a_finished_image_does_not_wait_for_the_next_ones_decoding(predictor: Predictor) -> None:
    first_is_out = threading.Event()

    def slow() -> np.ndarray:
        assert first_is_out.wait(60)
        return field(2)

    for outcome in predictor.run([Job("first", lambda: field(1, 225, 448)), Job("second", slow)]):
        assert outcome.prediction
        first_is_out.set()


def test_an_image_smaller_than_a_patch_is_analysed(predictor: Predictor) -> None:
    assert predictor.predict(field(3, 60, 40)).probabilities.shape == (1, 2)


def test_overlap_adds_patches(predictor: Predictor) -> None:
    assert len(predictor.predict(field(3, 448, 224), overlap=0.5).probabilities) == 3


def test_a_failure_in_the_runtime_or_domain_check_affects_one_image(
    random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in or after the network ends only that image."""
    predictor = Predictor(load(random_checkpoint))
    infer, check = predictor.runtime.infer, domain.check

    def picky(batch: np.ndarray) -> object:
        if batch[0, 0, 0, 0] == 7:
            raise RuntimeError("no memory on the device")
        answer = infer(batch)
        if batch[0, 0, 0, 0] == 5:
            answer[0][:] = np.nan
        return answer

    def fragile(picture: Image.Image, metadata: object) -> object:
        if picture.getpixel((0, 0)) == (9, 9, 9):
            raise IndexError("out of bounds")
        return check(picture, metadata)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor.runtime, "infer", picky)
    monkeypatch.setattr(domain, "check", fragile)
    images = [field(seed, 700, 460) for seed in range(5)]
    images[4][0, 0] = 5
    images[1][0, 0] = 7
    images[2][0, 0] = 9
    jobs = [Job(number, lambda image=image: image) for number, image in enumerate(images)]
    ends = {outcome.job.key: outcome for outcome in predictor.run(jobs)}
    assert sorted(ends) == [0, 1, 2, 3, 4]
    assert isinstance(ends[4].error, FloatingPointError)
    assert isinstance(ends[1].error, RuntimeError) and isinstance(ends[2].error, IndexError)
    assert ends[3].prediction is not None


GLASS = (232, 234, 230)


def with_glass(seed: int) -> np.ndarray:
    """A field of 448x448 pixels with an equal area of glass on its right."""
    return np.hstack([field(seed, 448, 448), np.full((448, 448, 3), GLASS, dtype=np.uint8)])


def test_patches_without_tissue_are_not_run_and_not_counted(random_checkpoint: Path) -> None:
    predictor = Predictor(load(random_checkpoint))
    seen, infer = [], predictor.runtime.infer

    def counted(batch: np.ndarray) -> object:
        seen.extend(patch for patch in batch if patch.any())
        return infer(batch)

    predictor.runtime.infer = counted  # type: ignore[method-assign, assignment]
    steps: list[tuple[int, int]] = []
    alone = predictor.predict(field(3, 448, 448))
    seen.clear()
    beside = predictor.predict(with_glass(3), progress=lambda *at: steps.append(at[1:]))
    assert len(seen) == 4 and steps[-1] == (4, 4)
    on_tissue = beside.grid.positions[:, 0] < 448
    assert (len(beside.grid), np.isnan(beside.probabilities[~on_tissue]).all()) == (8, True)
    assert beside.probabilities[on_tissue].tobytes() == alone.probabilities.tobytes()
    assert np.isnan(beside.activation[~on_tissue]).all() and not np.isnan(beside.activation[on_tissue]).any()
    verdict = beside.verdict
    assert (verdict.empty_patches, verdict.benign_patches + verdict.malignant_patches) == (4, 4)
    assert verdict.probability_malignant == pytest.approx(alone.verdict.probability_malignant, abs=0.02)


def test_an_image_of_glass_is_out_of_domain_and_delays_no_other(predictor: Predictor) -> None:
    empty = np.full((300, 700, 3), GLASS, dtype=np.uint8)
    jobs = [Job(0, lambda: field(0)), Job(1, lambda: empty), Job(2, lambda: field(2))]
    ends = {outcome.job.key: outcome.prediction for outcome in predictor.run(jobs)}
    found = ends[1]
    assert found is not None and found.verdict.verdict == "out_of_domain"
    assert (found.verdict.empty_patches, found.verdict.warnings) == (8, (domain.REASONS["background"],))
    assert all(ends[key] is not None and ends[key].verdict.verdict != "out_of_domain" for key in (0, 2))
