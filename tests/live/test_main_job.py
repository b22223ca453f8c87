"""From an empty installation to a result: real server, worker and images, with results read from the pages."""

from __future__ import annotations

import html
import os
import re
import time
from pathlib import Path

import pytest

from cases.images import synthetic
from tests.conftest import BUNDLED
from tests.live.conftest import Browser, Stack, start, stop

pytestmark = pytest.mark.live

VERDICTS = "Benign|Malignant|Indeterminate|Not H&E breast tissue"


def text_of(page: str) -> str:
    """The visible text of a page, without tags and scripts."""
    page = re.sub(r"<(script|style|template)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def open_case(browser: Browser, title: str, files: list[tuple[str, bytes]]) -> str:
    """Submit the form for a new case with images; returns the path of the case."""
    browser.open("/cases/new/")
    answer = browser.submit(
        "/cases/new/",
        {"title": title, "patient": "P-017", "magnification": "200X", "overlap": "0.0", "notes": "Lump, 2 cm."},
        [("images", (name, content)) for name, content in files],
    )
    path = answer.url.removeprefix(browser.base)
    assert re.fullmatch(r"/cases/[0-9a-f-]{36}/", path), answer.url
    return path


def wait(browser: Browser, case: str, seconds: int = 300) -> list[dict]:
    """Poll like the page's script until every slide has ended; returns the states observed."""
    seen = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = browser.open(f"{case}progress/").json()
        seen.append(now)
        if not now["open"]:
            return seen
        time.sleep(0.3)
    pytest.fail(f"still open after {seconds} s: {seen[-1]}")


def check_slide(browser: Browser, slide_id: str) -> str:
    """Open the page, image and map of a slide; returns the displayed result."""
    shown = text_of(browser.open(f"/slides/{slide_id}/").text)
    found = re.search(VERDICTS, shown)
    assert found
    assert "not for diagnosis" in shown.lower()
    assert browser.open(f"/slides/{slide_id}/image.png").content.startswith(b"\x89PNG")
    if found[0] != "Not H&E breast tissue":
        assert re.search(r"\b12\b[^.]{0,40}patches|patches[^.]{0,40}\b12\b", shown, re.I), shown
        assert browser.open(f"/slides/{slide_id}/map.png").content.startswith(b"\x89PNG")
    return found[0]


def test_synthetic_images_get_verdicts_from_the_worker_process(browser: Browser) -> None:
    files = [(upload.name, upload.read()) for upload in synthetic.uploads()]
    bad = [("letter.png", b"Dear colleague"), ("empty.png", b"")]
    case = open_case(browser, "Synthetic", [*files, *bad])
    page = text_of(browser.open(case).text)
    seen = wait(browser, case)
    assert seen[-1]["total"] == len(files)
    assert all(slide["state"] == "done" for slide in seen[-1]["slides"])
    for slide in seen[-1]["slides"]:
        check_slide(browser, slide["id"])
    page = text_of(browser.open(case).text)
    assert re.search(VERDICTS, page)
    history = text_of(browser.open("/cases/").text)
    assert "Synthetic" in history


def test_the_admin_shows_the_case(browser: Browser) -> None:
    open_case(browser, "For the admin", [])
    assert "For the admin" in browser.open("/admin/cases/case/").text


def test_another_user_does_not_see_it(browser: Browser, stack: Stack) -> None:
    case = open_case(browser, "Private", [])
    with Browser(stack) as stranger:
        stranger.open("/accounts/signup/")
        password = "a long enough passphrase"
        stranger.submit(
            "/accounts/signup/",
            {"username": "stranger", "email": "s@example.org", "password1": password, "password2": password},
        )
        assert stranger.get(stack.url + case, timeout=30).status_code == 404
        assert "Private" not in stranger.open("/cases/").text


@pytest.mark.skipif(not BUNDLED, reason="no trained weights in inference/weights")
def test_the_fifteen_demonstration_images(browser: Browser, demo: Path) -> None:
    for folder, count in (("benign", 14), ("malignant", 1)):
        files = [(path.name, path.read_bytes()) for path in sorted((demo / folder).iterdir())]
        assert len(files) == count
        case = open_case(browser, f"Demonstration, {folder}", files)
        seen = wait(browser, case, 600)
        assert [slide["state"] for slide in seen[-1]["slides"]] == ["done"] * count
        verdicts = [check_slide(browser, slide["id"]) for slide in seen[-1]["slides"]]
        page = text_of(browser.open(case).text).replace(" ", "")
        assert all(name in page for name, _ in files)
        assert set(verdicts) <= set(VERDICTS.split("|"))


def test_ctrl_c_stops_everything(tmp_path: Path, model_dir: Path) -> None:
    stack = start(tmp_path, model_dir)
    children = Path(f"/proc/{stack.process.pid}/task/{stack.process.pid}/children").read_text().split()
    assert len(children) == 2
    output = stop(stack)
    assert stack.process.returncode == 0, output
    assert output.rstrip().endswith("Stopped.")
    for pid in children:
        assert not os.path.exists(f"/proc/{pid}")


def test_a_folder_of_samples_is_a_ready_case(tmp_path: Path, model_dir: Path) -> None:
    folder = tmp_path / "my fields"
    folder.mkdir()
    for upload in synthetic.uploads():
        (folder / str(upload.name)).write_bytes(upload.read())
    (folder / "notes.txt").write_text("not an image and not meant as one")
    stack = start(tmp_path, model_dir, "--samples", str(folder))
    try:
        with Browser(stack) as browser:
            browser.sign_in(stack.username, stack.password)
            found = re.search(r"/cases/[0-9a-f-]{36}/", (tmp_path / "log").read_text())
            assert found
            assert "my fields" in browser.open(found[0]).text
            wait(browser, found[0])
    finally:
        stop(stack)
