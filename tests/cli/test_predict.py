"""``manage.py predict``: modes, formats, exit codes, and that it needs neither database nor server."""

from __future__ import annotations

import csv
import http.server
import io
import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.cli.client import ApiError
from inference.cli.client import Client as ApiClient
from inference.engine import runtime
from inference.engine.image import decode
from inference.engine.predictor import Predictor
from tests.conftest import BUNDLED, ROOT
from tests.engine.making import tiff, tissue


def draw(path: Path, seed: int, size: tuple[int, int] = (224, 224)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with the images a.png, b.tif and inner/c.jpg, and notes.txt, which is not an image."""
    folder = tmp_path / "images"
    draw(folder / "a.png", 1)
    draw(folder / "b.tif", 2)
    draw(folder / "inner" / "c.jpg", 3)
    (folder / "notes.txt").write_text("no image")
    return folder


class Run:
    """The result of a finished command."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def predict(random_checkpoint: Path, tmp_path: Path) -> Any:
    """Runs the command as a separate process without access to a database."""

    def run(*arguments: str | Path, typed: str = "", **environment: str) -> Run:
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "histopath.settings",
            "SECRET_KEY": "only-for-tests-" + "x" * 40,
            "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nowhere",
            "MODEL_DIR": str(random_checkpoint.parent),
            "VAR_DIR": str(tmp_path / "var"),
            **environment,
        }
        command = [sys.executable, "manage.py", "predict", *map(str, arguments)]
        return Run(subprocess.run(command, cwd=ROOT, env=env, input=typed, capture_output=True, text=True, timeout=120))

    return run


def test_single_prints_what_the_engine_says(predict: Any, images: Path, random_checkpoint: Path) -> None:
    done = predict("--mode", "single", "--image", images / "a.png", "--json")
    assert (done.code, done.err) == (0, "")
    expected = Predictor(runtime.load(random_checkpoint)).predict(decode(images / "a.png").rgb).verdict
    assert done.json["probabilities"]["malignant"] == expected.probability_malignant
    assert done.json["prediction"] == expected.verdict
    assert done.json["patch_breakdown"] == {
        "benign_patches": expected.benign_patches,
        "malignant_patches": expected.malignant_patches,
    }
    assert done.json["filename"] == "a.png"


def test_text_shows_result_confidence_patches_and_probabilities(predict: Any, images: Path) -> None:
    done = predict("--image", images / "a.png")
    said = predict("--image", images / "a.png", "--json").json
    assert f"Confidence:   {said['confidence']:.2%}" in done.out
    assert f"benign      {said['probabilities']['benign']:.4f}" in done.out
    assert "Patches:      1\n" in done.out
    assert "(100.0%)" in done.out
    assert said["model"]["sha256"] in done.out


def test_a_folder_shows_each_image_and_the_case_result(predict: Any, images: Path) -> None:
    done = predict("--mode", "folder", "--folder", images, "--json")
    assert done.code == 0
    result = done.json
    assert [one["filename"] for one in result["individual_predictions"]] == ["a.png", "b.tif"]
    mean = sum(one["probabilities"]["malignant"] for one in result["individual_predictions"]) / 2
    assert result["aggregated_diagnosis"]["probabilities"]["malignant"] == pytest.approx(mean, abs=1e-15)
    text = predict("--folder", images).out
    assert "a.png" in text
    assert "b.tif" in text
    assert "Images:       2\n" in text
    assert result["review_recommended"] == bool(result["reasons"])
    (images / "broken.png").write_bytes(b"no image")
    assert "Review:       1 of 3 images could not be analysed.\n" in predict("--folder", images).out


def test_recursive_and_paths_from_standard_input(predict: Any, images: Path) -> None:
    names = [
        one["filename"] for one in predict("--folder", images, "--recursive", "--json").json["individual_predictions"]
    ]
    assert names == ["a.png", "b.tif", os.path.join("inner", "c.jpg")]
    typed = f"{images / 'inner' / 'c.jpg'}\n\n{images / 'a.png'}\n"
    done = predict("--folder", "-", "--json", typed=typed)
    assert [one["filename"] for one in done.json["individual_predictions"]] == [os.path.join("inner", "c.jpg"), "a.png"]
    done = predict("--folder", "-", "--json", typed=f"{images / 'a.png'}\nmanage.py\n")
    assert [problem["code"] for problem in done.json["errors"]] == ["not_an_image"], "relative and absolute paths mix"


def test_csv_has_a_line_for_each_image_and_each_error(predict: Any, images: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    done = predict("--folder", images, "--csv")
    rows = {row["filename"]: row for row in csv.DictReader(io.StringIO(done.out))}
    assert done.code == 1
    assert set(rows) == {"a.png", "b.tif", "broken.png"}
    assert float(rows["a.png"]["benign"]) + float(rows["a.png"]["malignant"]) == pytest.approx(1)
    assert rows["broken.png"]["error"] == "is not a PNG, JPEG, TIFF, BMP, WebP, HEIC, AVIF, JPEG 2000 or DICOM image"


def test_a_failed_image_is_exit_code_1_and_the_others_continue(predict: Any, images: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    done = predict("--folder", images, "--json")
    assert done.code == 1
    assert (done.json["num_images"], done.json["errors"][0]["filename"]) == (2, "broken.png")
    assert "broken.png is not a PNG" in done.err
    alone = predict("--image", images / "broken.png")
    assert (alone.code, alone.out) == (1, "")


def test_overlap_and_map(predict: Any, tmp_path: Path) -> None:
    image = draw(tmp_path / "wide.png", 5, (448, 224))
    out = tmp_path / "map.png"
    done = predict("--image", image, "--overlap", "0.5", "--map", out, "--json")
    assert (done.json["num_patches"], done.json["overlap"]) == (3, 0.5)
    with Image.open(out) as opened:
        assert opened.size == (448, 224)
    grey = tmp_path / "grey.png"
    Image.new("RGB", (448, 224), (128, 128, 128)).save(grey)
    done = predict("--image", grey, "--map", tmp_path / "none.png", "--json", "--model", BUNDLED[-1])
    assert (done.code, done.json["verdict"]) == (0, "out_of_domain")
    assert "none.png was not written" in done.err
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--image", "nowhere.png"],
        ["--folder", "nowhere"],
        ["--image", "a", "--folder", "b"],
        ["--mode", "folder", "--image", "a"],
        ["--folder", "b", "--map", "m.png"],
        ["--image", "a", "--overlap", "0.9"],
        ["--image", "a", "--json", "--csv"],
        ["--image", "a", "--server", "http://127.0.0.1:1"],
        ["--bogus"],
    ],
)
def test_invalid_options_are_exit_code_2(predict: Any, arguments: list[str]) -> None:
    done = predict(*arguments, HISTOPATH_TOKEN="")
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err


def test_an_empty_folder_is_a_usage_error(predict: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert predict("--folder", tmp_path / "empty").code == 2


def test_without_a_model_the_error_says_what_to_do(predict: Any, images: Path, tmp_path: Path) -> None:
    done = predict("--image", images / "a.png", MODEL_DIR=str(tmp_path))
    assert done.code == 1
    assert "--model" in done.err
    (tmp_path / "bad.safetensors").write_bytes(b"not a checkpoint")
    done = predict("--image", images / "a.png", "--model", tmp_path / "bad.safetensors")
    assert done.code == 1
    assert "Traceback" not in done.err


def test_an_unavailable_server_is_exit_code_1(predict: Any, images: Path) -> None:
    done = predict("--image", images / "a.png", "--server", "http://127.0.0.1:1", "--token", "x")
    assert done.code == 1
    assert "Traceback" not in done.err


def test_progress_is_shown_only_on_a_terminal(random_checkpoint: Path, tmp_path: Path) -> None:
    image = draw(tmp_path / "wide.png", 5, (2240, 224))
    env = {**os.environ, "SECRET_KEY": "x" * 50, "MODEL_DIR": str(random_checkpoint.parent), "VAR_DIR": str(tmp_path)}
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "predict", "--image", str(image), "--json"],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=end,
    )  # fmt: skip
    os.close(end)
    drawn = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        drawn += chunk
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 0
    assert b"patch 4 of 10" in drawn
    assert drawn.endswith(b"\r\x1b[K")
    assert json.loads(out)["num_patches"] == 10


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (301, {"Location": "https://example.org/"}, b"", "https://example.org/"),
        (200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>", "not an API response"),
        (502, {"Content-Type": "application/json"}, b'"bad gateway"', "Bad Gateway"),
    ],
)
def test_an_unexpected_response_is_an_error(status: int, headers: dict[str, str], body: bytes, said: str) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(ApiError, match=said):
                ApiClient(f"http://127.0.0.1:{server.server_port}", "token").delete_case("x")
        finally:
            server.shutdown()
            thread.join()


def test_model_commands_need_no_secret_but_serving_does(tmp_path: Path, random_checkpoint: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "VIRTUAL_ENV")}
    env |= {"VAR_DIR": str(tmp_path), "MODEL_DIR": str(random_checkpoint.parent), "SECRET_KEY": "", "DEBUG": "off"}

    def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=180
        )

    listed = manage("manage.py", "model", "list")
    assert listed.returncode == 0 and "random 0" in listed.stdout, listed.stderr
    for refused in (
        manage("manage.py", "check"),
        manage("manage.py", "qcluster"),
        manage("-c", "import histopath.wsgi"),
    ):
        assert refused.returncode != 0 and "SECRET_KEY is missing" in refused.stderr


def test_files_left_out_are_counted_and_named_and_litter_is_not(predict: Any, images: Path) -> None:
    (images / ".DS_Store").write_bytes(b"x")
    (images / "Thumbs.db").write_bytes(b"x")
    (images / "._a.png").write_bytes(b"\0\5\x16\7")
    (images / "a.png").rename(images / "without a suffix")
    done = predict("--folder", images, "--json")
    assert (done.code, done.json["num_images"]) == (0, 2)
    assert done.err == "Left out, not images (1): notes.txt\n"


def test_names_that_are_no_text_are_escaped_wherever_they_go(predict: Any, images: Path) -> None:
    odd = os.path.join(os.fsencode(images), b"M\xe4rz\x1b[31m.png")
    os.rename(images / "a.png", odd)
    for form in ("--json", "--csv"):
        done = predict("--folder", images, form)
        assert done.code == 0 and "M\\xe4rz\\x1b[31m.png" in done.out.replace("\\\\", "\\")
        assert "b.tif" in done.out and "\x1b" not in done.out
    listed = os.fsdecode(odd)
    command = [
        sys.executable,
        "-c",
        "from inference.cli.arguments import _named; print(len(_named('-', False)[0][0].name))",
    ]
    done = subprocess.run(command, cwd=ROOT, input=os.fsencode(listed) + b"\n", capture_output=True, timeout=60)
    assert done.stdout.strip() == str(len(os.path.basename(listed))).encode(), done.stderr


def test_pages_of_a_file_are_named(predict: Any, tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    path.write_bytes(tiff(tissue(3, 240, 230), tissue(5, 240, 230)))
    assert "Warning:      Only page 1 of 2" in predict("--image", path).out
    done = predict("--folder", tmp_path, "--all-pages", "--json")
    names = [one["filename"] for one in done.json["individual_predictions"]]
    assert names == ["pages.tif (page 1)", "pages.tif (page 2)"]
    assert not [text for one in done.json["individual_predictions"] for text in one["warnings"] if "page" in text]
