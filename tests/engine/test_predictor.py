"""The predictor against a network of random weights, computed independently patch by patch."""

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
from inference.engine.predictor import Dropped, Job, Predictor, softmax
from inference.engine.runtime import load


@pytest.fixture(scope="module")
def predictor(random_checkpoint: Path) -> Predictor:
    return Predictor(load(random_checkpoint))


def field(seed: int, width: int = 300, height: int = 230) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_softmax_by_hand() -> None:
    probabilities = softmax(np.array([[0.0, np.log(3.0)], [1000.0, 0.0]], dtype=np.float32))
    assert probabilities == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]), abs=1e-7)


def test_patch_probabilities_are_those_of_the_bare_network(predictor: Predictor, random_checkpoint: Path) -> None:
    rgb = field(0)
    prediction = predictor.predict(rgb)
    network, _ = from_checkpoint(random_checkpoint)
    for (x, y), found in zip(Grid(300, 230).positions, prediction.probabilities, strict=True):
        patch = torch.from_numpy(rgb[y : y + 224, x : x + 224].copy()).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            logits, _ = network.eval()(patch)
        assert found == pytest.approx(torch.softmax(logits, 1)[0].numpy(), abs=1e-4)
    assert prediction.verdict.raw_malignant == pytest.approx(prediction.probabilities[:, 1].mean(), abs=1e-7)


def test_the_same_bits_alone_or_among_others(predictor: Predictor) -> None:
    images = [field(seed, 300 + 40 * seed, 230) for seed in range(3)]
    alone = [predictor.predict(image) for image in images]
    jobs = [Job(number, lambda image=image: image) for number, image in enumerate(images)]
    together = list(predictor.run(jobs))
    assert [outcome.job.key for outcome in together] == [0, 1, 2]
    for outcome, single in zip(together, alone, strict=True):
        assert outcome.prediction is not None
        assert outcome.prediction.probabilities.tobytes() == single.probabilities.tobytes()
        assert outcome.prediction.activation.tobytes() == single.activation.tobytes()


def test_a_file_and_its_pixels_give_the_same_bits(predictor: Predictor) -> None:
    rgb = field(5)
    assert predictor.predict(encode_png(rgb)).probabilities.tobytes() == predictor.predict(rgb).probabilities.tobytes()


def test_progress_tells_every_patch_and_ends_complete(predictor: Predictor) -> None:
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


def test_an_image_that_nobody_wants_any_more_is_left(predictor: Predictor) -> None:
    seen: list[tuple[object, int]] = []

    def told(job: Job, done: int, total: int) -> None:
        seen.append((job.key, done))
        if job.key == "large":
            raise Dropped

    jobs = [Job("a", lambda: field(1)), Job("large", lambda: field(2, 1500, 1500), 0.5), Job("b", lambda: field(3))]
    outcomes = {outcome.job.key: outcome for outcome in predictor.run(jobs, told)}
    assert outcomes["a"].prediction and isinstance(outcomes["large"].error, Dropped)
    assert [key for key, _ in seen].count("large") == 1, "told once, and of no batch that was cut before"
    assert outcomes["b"].prediction is not None
    alone = predictor.predict(field(3))
    assert outcomes["b"].prediction.probabilities.tobytes() == alone.probabilities.tobytes()


def test_jobs_are_read_one_ahead_only(predictor: Predictor) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(4):
            taken.append(number)
            yield Job(number, lambda: field(1, 1344, 448))

    next(iter(predictor.run(jobs())))
    # One done, one in the network, one being opened.
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


def test_what_the_runtime_or_the_gate_can_not_take_fails_alone(
    random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the network or after it ends that image, and the rest of the queue goes on."""
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
    images[4][:] = 5
    images[1][:] = 7
    images[2][0, 0] = 9
    jobs = [Job(number, lambda image=image: image) for number, image in enumerate(images)]
    ends = {outcome.job.key: outcome for outcome in predictor.run(jobs)}
    assert sorted(ends) == [0, 1, 2, 3, 4]
    assert isinstance(ends[4].error, FloatingPointError)
    assert isinstance(ends[1].error, RuntimeError) and isinstance(ends[2].error, IndexError)
    assert ends[3].prediction is not None
