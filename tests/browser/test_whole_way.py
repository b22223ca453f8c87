"""The whole way of a person, in a real browser before the real server and worker."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.live.conftest import Stack

pytestmark = [pytest.mark.browser, pytest.mark.live]

PASSWORD = "a long and private word 41"


def drop(page: Page, paths: list[Path]) -> None:
    """Drop files on the page, as a mouse does."""
    files = [
        [path.name, base64.b64encode(path.read_bytes()).decode(), path.stat().st_mtime_ns // 10**6] for path in paths
    ]
    page.evaluate(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, content, lastModified] of files) {
                const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
                transfer.items.add(new File([bytes], name, {lastModified}));
            }
            const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
            for (const kind of ["dragenter", "dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(kind, options));
        }""",
        files,
    )


def sign_up(page: Page, name: str) -> None:
    page.goto("/")
    page.get_by_role("link", name="Create an account").click()
    page.fill("input[name=username]", name)
    page.fill("input[name=email]", f"{name}@example.org")
    page.fill("input[name=password1]", PASSWORD)
    page.fill("input[name=password2]", PASSWORD)
    page.locator("main button[type=submit]").click()
    page.wait_for_url("**/cases/")


@pytest.mark.parametrize(("size", "theme"), [("wide", "light"), ("narrow", "dark")])
def test_from_sign_up_to_report(
    window: Callable[..., Page], images: Path, complaints: list[str], size: str, theme: str, tmp_path: Path
) -> None:
    page = window(size, theme)
    sign_up(page, f"dana-{size}")
    expect(page.get_by_role("heading", name="No cases yet")).to_be_visible()

    page.goto("/cases/new/")
    drop(page, [images / "synthetic-1.png", images / "broken.png"])
    page.locator("[data-folder-input]").set_input_files(images)
    names = page.locator(".file-name")
    expect(names).to_have_count(4)  # the picture dropped before is not taken twice; the text file is left out
    expect(page.locator("[data-summary]")).to_contain_text("4 images to upload")
    page.get_by_role("button", name="Remove synthetic-3.png").click()
    expect(names).to_have_count(3)
    page.fill("input[name=title]", "From the browser")
    page.fill("input[name=tags]", "tried")
    page.get_by_role("button", name="Analyse").click()
    expect(page.locator(".bad-file")).to_contain_text("broken.png")
    expect(page.locator(".bad-file .file-facts")).to_contain_text(re.compile("damaged|not a PNG"))
    page.get_by_role("link", name="Go to the case").click()

    expect(page.get_by_role("heading", name="Case result")).to_be_visible(timeout=90_000)
    expect(page.locator(".slide [data-state=done]")).to_have_count(2, timeout=90_000)
    expect(page.get_by_role("heading", name="2 of 2 images analysed")).to_be_visible()  # it stays, so nothing moves
    assert "uncalibrated" in page.content() or "calibrated" in page.content()

    page.locator(".slide-link").first.click()
    look_around(page)
    page.keyboard.press("n")
    expect(page.locator("h1")).to_have_text("synthetic-2.png")

    page.goto("/cases/")
    page.get_by_role("link", name="From the browser").click()
    page.locator("#review").get_by_text("Uncertain").click()
    page.get_by_role("button", name="Sign reading").click()
    expect(page.locator(".readings")).to_contain_text("Uncertain")
    report = page.request.get(str(page.get_by_role("link", name="Report", exact=True).get_attribute("href")))
    assert report.headers["content-type"] == "application/pdf"
    assert report.body().startswith(b"%PDF")

    page.goto("/cases/?q=browser&tag=tried")
    expect(page.locator(".row-title")).to_have_count(1)
    page.goto("/cases/?q=nothing-of-this-name")
    expect(page.get_by_role("heading", name="No cases match")).to_be_visible()

    page.goto("/accounts/tokens/")
    page.fill("input[name=name]", "lab server")
    page.get_by_role("button", name="Create").click()
    page.fill("input[name=password]", PASSWORD)
    page.locator("main button[type=submit]").first.click()
    token = page.get_by_label("The new token").input_value()
    answer = page.request.get("/api/v1/me", headers={"Authorization": f"Token {token}"})
    assert answer.status == 200
    assert complaints == []


def soon(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until it holds; the page goes on meanwhile."""
    for _ in range(100):
        page.wait_for_timeout(200)
        if holds():
            return
    raise AssertionError("not within 20 s")


def look_around(page: Page) -> None:
    """Maps, threshold, zoom and patches of the viewer; nothing of it on a slide out of domain but the image."""
    expect(page.locator("[data-viewer].ready")).to_be_visible()
    canvas = page.locator("[data-canvas]")
    before = canvas.screenshot()
    page.get_by_role("button", name="Zoom in").click()
    soon(page, lambda: canvas.screenshot() != before)
    page.get_by_role("button", name="Fit the image").click()
    page.get_by_role("button", name="Activation").click()
    expect(page.locator("[data-legend-high]")).to_have_text("malignant")
    page.get_by_role("button", name="Patches", exact=True).click()
    page.locator("[data-threshold]").fill("100")
    expect(page.locator("[data-threshold-out]")).to_have_text("100 %")
    page.wait_for_timeout(200)
    hidden = canvas.screenshot()
    page.locator("[data-threshold]").fill("0")
    soon(page, lambda: canvas.screenshot() != hidden)
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("[data-tip]")).to_contain_text("malignant")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("[data-dialog]")).to_be_visible()
    expect(page.locator("[data-dialog-text]")).to_contain_text("Probability of malignancy (uncalibrated)")
    page.get_by_role("button", name="Close").focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    expect(page.locator("[data-dialog-text]")).to_contain_text("rank 1 of 12")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-dialog-text]")).to_contain_text("rank 2 of 12")
    page.keyboard.press("Escape")
    expect(page.locator("[data-dialog]")).to_be_hidden()


def test_a_reload_loses_nothing_that_was_sent(window: Callable[..., Page], signed_in: object, images: Path) -> None:
    page = window(state=signed_in)
    page.goto("/cases/new/")
    drop(page, [images / "synthetic-1.png"])
    page.fill("input[name=title]", "Reloaded")
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url(re.compile(r"/cases/[0-9a-f-]{36}/"))
    page.reload()
    expect(page.locator(".slide")).to_have_count(1)


def test_an_image_that_the_server_has_no_turn_for_is_sent_again(
    window: Callable[..., Page], signed_in: object, images: Path
) -> None:
    page = window(state=signed_in)
    turned_away: list[str] = []

    def busy_at_first(route: Route) -> None:
        if turned_away:
            return route.continue_()
        turned_away.append(route.request.url)
        problem = {"filename": "", "code": "busy", "reason": "Other images are being read."}
        return route.fulfill(status=429, headers={"Retry-After": "1"}, json={"slides": [], "errors": [problem]})

    page.route(re.compile(r"/cases/[0-9a-f-]+/slides/$"), busy_at_first)
    page.goto("/cases/new/")
    page.locator("input[type=file]").first.set_input_files([images / "synthetic-1.png", images / "synthetic-2.png"])
    page.get_by_role("button", name="Analyse").click()
    expect(page.get_by_text("waiting: the server is processing other images")).to_be_visible()
    expect(page.get_by_role("heading", name="Case result")).to_be_visible(timeout=90_000)
    expect(page.locator(".slide")).to_have_count(2)
    assert len(turned_away) == 1


def test_going_offline_is_said(window: Callable[..., Page], signed_in: object) -> None:
    page = window(state=signed_in)
    page.goto("/cases/")
    page.context.set_offline(True)
    expect(page.locator("[data-offline]")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("[data-offline]")).to_be_hidden()


def test_it_works_without_scripts(chromium: object, stack: object, images: Path) -> None:
    context = chromium.new_context(base_url=stack.url, java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    sign_up(page, "noscript")
    page.goto("/cases/new/")
    page.fill("input[name=title]", "Without scripts")
    page.locator("input[name=images]").set_input_files(images / "synthetic-2.png")
    page.get_by_role("button", name="Analyse").click()
    expect(page.locator("h1")).to_have_text("Without scripts")
    expect(page.locator(".slide")).to_have_count(1)
    for _ in range(60):
        if page.get_by_role("heading", name="Case result").count():
            break
        page.wait_for_timeout(1000)
        page.reload()
    page.locator(".slide-link").click()
    expect(page.locator(".viewer-image")).to_be_visible()
    context.close()


def test_staff_review_in_the_admin(window: Callable[..., Page], signed_in: object, complaints: list[str]) -> None:
    page = window(state=signed_in)
    page.goto("/cases/new/")
    page.get_by_role("button", name="Try it with synthetic images").click()
    expect(page.locator(".slide [data-state=done]")).to_have_count(3, timeout=120_000)
    pk = page.url.split("/")[-2]

    page.goto("/admin/cases/case/")
    thumbnail = page.locator("#result_list .hp-thumb").first
    expect(thumbnail).to_be_visible()
    assert thumbnail.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.locator("#changelist-filter").get_by_role("link", name="Finished").click()
    expect(page.locator("#result_list tbody tr").first).to_be_visible()
    page.check(f"#result_list input[value='{pk}']")
    page.select_option("select[name=action]", "rerun")
    page.locator("button[name=index]").first.click()
    expect(page.locator(".messagelist")).to_contain_text("1 case was queued for analysis")

    page.goto(f"/admin/cases/case/{pk}/change/")
    expect(page.get_by_role("heading", name="slides with maps")).to_be_visible()
    expect(page.locator("#slides-group .hp-thumb").first).to_be_visible()

    page.goto("/admin/inference/modelversion/")
    page.check("#result_list input.action-select")
    page.select_option("select[name=action]", "activate")
    page.locator("button[name=index]").first.click()
    expect(page.locator(".messagelist")).to_contain_text("is now active")
    assert complaints == []


def test_a_single_image_and_its_result(window: Callable[..., Page], signed_in: object, images: Path) -> None:
    """By keyboard to the mode, one image in place of another, and straight to its page."""
    page = window(state=signed_in)
    page.goto("/cases/new/")
    page.get_by_role("link", name="Single image").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/cases/new/?mode=single")
    drop(page, [images / "synthetic-1.png", images / "synthetic-2.png"])
    expect(page.locator("[data-summary]")).to_contain_text("1 ignored")
    drop(page, [images / "notes.txt", images / "synthetic-3.png"])
    expect(page.locator(".file-name")).to_have_text(["synthetic-3.png"])
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url(re.compile(r"/slides/[0-9a-f-]{36}/"))
    expect(page.locator("h1")).to_have_text("synthetic-3.png")
    expect(page.locator("[data-viewer].ready")).to_be_visible(timeout=90_000)


def test_the_viewer_moves_by_keys_wheel_and_hand(
    window: Callable[..., Page], signed_in: object, images: Path, complaints: list[str]
) -> None:
    page = window(state=signed_in)
    page.goto("/cases/new/?mode=single")
    drop(page, [images / "synthetic-1.png"])
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url(re.compile(r"/slides/[0-9a-f-]{36}/"))
    expect(page.locator(".patches-card")).to_be_visible(timeout=90_000)
    expect(page.locator("[data-viewer].ready")).to_be_visible()
    canvas = page.locator("[data-canvas]")
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def after(action: Callable[[], object]) -> bytes:
        action()
        page.wait_for_timeout(700)
        return canvas.screenshot()

    # A fitted image lets the page scroll, and does not change by it.
    fitted = after(lambda: page.keyboard.press("0"))
    page.mouse.wheel(0, 200)
    soon(page, lambda: page.evaluate("scrollY") > 100)
    page.wait_for_timeout(400)
    page.mouse.wheel(0, -100)
    soon(page, lambda: page.evaluate("scrollY") < 110)  # and scrolls back as well
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + 1)
    zoomed = after(lambda: page.mouse.wheel(0, -600))
    assert zoomed != fitted
    assert page.evaluate("scrollY") == 0
    canvas.focus()
    moved = after(lambda: page.keyboard.press("ArrowRight"))
    assert moved != zoomed

    def drag() -> None:
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2 - 120, box["y"] + box["height"] / 2 - 60, steps=4)
        page.mouse.up()

    assert after(drag) != moved
    expect(page.locator("[data-dialog]")).to_be_hidden()
    assert complaints == []


def test_a_very_large_slide_opens_in_tiles_of_full_resolution(
    window: Callable[..., Page], signed_in: object, images: Path, complaints: list[str], tmp_path: Path
) -> None:
    field = np.asarray(Image.open(images / "synthetic-1.png").convert("RGB"))
    large = np.tile(field, (9, 10, 1))[:4100, :6000]
    Image.fromarray(large).save(tmp_path / "large.png", compress_level=1)
    page = window(state=signed_in)
    page.goto("/cases/new/?mode=single")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "large.png")
    tiles: list[str] = []
    page.on("response", lambda answer: tiles.append(answer.url) if "/tiles/" in answer.url and answer.ok else None)
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url(re.compile(r"/slides/[0-9a-f-]{36}/"))
    # The picture is there before the verdict.
    expect(page.locator("[data-viewer].ready")).to_be_visible(timeout=60_000)
    assert not any("/tiles/13/" in url for url in tiles)
    for _ in range(8):
        page.get_by_role("button", name="Zoom in").click()
    soon(page, lambda: any("/tiles/13/" in url for url in tiles))
    assert complaints == []


def test_a_session_that_ends_costs_neither_words_nor_images(
    window: Callable[..., Page], stack: Stack, images: Path
) -> None:
    """Signed out while writing a reading, and while images wait to be sent."""
    page = window()
    page.goto("/accounts/login/")

    def sign_in(at: Page) -> None:
        at.fill("input[name=login]", stack.username)
        at.fill("input[name=password]", stack.password)
        at.click("main button[type=submit]")

    def sign_out() -> None:
        page.context.clear_cookies(name=re.compile("sessionid$"))

    sign_in(page)
    page.wait_for_url("**/cases/")
    other = page.context.new_page()
    for number, (address, button) in enumerate([("/cases/new/", "Analyse"), ("", "Add and analyse")], 1):
        if address:
            page.goto(address)
            page.fill("input[name=title]", "Interrupted")
        drop(page, [images / "synthetic-1.png", images / "synthetic-2.png"])
        sign_out()
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator("[data-progress-text]")).to_contain_text(
            "Not uploaded" if address else "0 of 2 images uploaded"
        )
        other.goto("/accounts/login/")
        sign_in(other)
        other.wait_for_url("**/cases/")
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator("h1")).to_have_text("Interrupted")
        expect(page.locator(".slide")).to_have_count(2 * number, timeout=30_000)

    page.locator("#review").get_by_text("Uncertain").click()
    page.fill("#review textarea", "Two mitoses in the upper left")
    sign_out()
    page.get_by_role("button", name="Sign reading").click()
    expect(page.locator(".notices")).to_contain_text("nothing was saved")
    sign_in(page)
    expect(page.locator("h1")).to_have_text("Interrupted")
    expect(page.locator("#review textarea")).to_have_value("Two mitoses in the upper left")
    page.get_by_role("button", name="Sign reading").click()
    expect(page.locator(".readings")).to_contain_text("Two mitoses in the upper left")
    expect(page.locator(".readings")).to_contain_text("Uncertain")
    page.reload()
    expect(page.locator("#review textarea")).to_have_value("")


def test_what_one_person_was_writing_is_not_there_for_the_next(
    window: Callable[..., Page], stack: Stack, signed_in: object
) -> None:
    page = window(state=signed_in)
    page.goto("/cases/new/")
    page.fill("input[name=title]", "Shared desk")
    page.get_by_role("button", name="Create empty case").click()
    case = page.url
    page.fill("#review textarea", "first opinion")
    page.reload()
    expect(page.locator("#review textarea")).to_have_value("first opinion")
    page.context.clear_cookies()
    sign_up(page, "next-at-the-desk")
    page.context.clear_cookies()
    page.goto("/accounts/login/")
    page.fill("input[name=login]", stack.username)
    page.fill("input[name=password]", stack.password)
    page.click("main button[type=submit]")
    page.wait_for_url("**/cases/")
    page.goto(case)
    expect(page.locator("#review textarea")).to_have_value("")


def test_the_viewer_stays_as_it_was_set_from_image_to_image(
    window: Callable[..., Page], signed_in: object, images: Path
) -> None:
    page = window(state=signed_in)
    page.goto("/cases/new/")
    drop(page, [images / "synthetic-1.png", images / "synthetic-2.png"])
    page.get_by_role("button", name="Analyse").click()
    expect(page.locator(".slide [data-state=done]")).to_have_count(2, timeout=90_000)
    page.locator(".slide-link").first.click()
    expect(page.locator("[data-viewer].ready")).to_be_visible()
    expect(page.locator("[data-layer=none]")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Activation").click()
    page.locator("[data-opacity]").fill("20")
    page.locator("[data-threshold]").fill("30")
    page.locator("[data-grid]").check()
    page.keyboard.press("n")
    expect(page.locator("h1")).to_have_text("synthetic-2.png")
    expect(page.locator("[data-layer=activation]")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-opacity-out]")).to_have_text("20 %")
    expect(page.locator("[data-threshold-out]")).to_have_text("30 %")
    expect(page.locator("[data-grid]")).to_be_checked()


def test_the_way_back_to_the_cases_keeps_the_search(window: Callable[..., Page], signed_in: object) -> None:
    page = window(state=signed_in)
    page.goto("/cases/new/")
    page.fill("input[name=title]", "Found by searching")
    page.get_by_role("button", name="Create empty case").click()
    page.goto("/cases/?q=searching")
    page.get_by_role("link", name="Found by searching").click()
    page.locator(".crumbs").get_by_role("link", name="Cases").click()
    page.wait_for_url("**/cases/?q=searching")


def test_a_refused_image_leads_to_the_case_all_the_same(
    window: Callable[..., Page], signed_in: object, images: Path
) -> None:
    """What is written once the case is opened would not be sent any more, so nothing can be written there."""
    page = window(state=signed_in)

    def refuse(route: Route) -> None:
        problem = {"filename": "synthetic-1.png", "code": "unreadable", "reason": "The file is damaged."}
        route.fulfill(status=400, json={"slides": [], "errors": [problem]})

    page.route(re.compile(r"/cases/[0-9a-f-]+/slides/$"), refuse)
    page.goto("/cases/new/")
    page.fill("input[name=title]", "Nothing arrives")
    page.locator("input[type=file]").first.set_input_files([images / "synthetic-1.png"])
    page.get_by_role("button", name="Analyse").click()
    expect(page.get_by_text("The file is damaged.")).to_be_visible()
    expect(page.locator("input[name=title]")).to_be_disabled()
    page.get_by_role("link", name="Go to the case").click()
    expect(page.get_by_role("heading", name="Nothing arrives")).to_be_visible()


def test_a_folder_of_folders_with_the_same_names(
    window: Callable[..., Page], signed_in: object, images: Path, tmp_path: Path
) -> None:
    for name in ("left", "right"):
        (tmp_path / "both" / name).mkdir(parents=True)
        shutil.copy2(images / "synthetic-1.png", tmp_path / "both" / name)
    page = window(state=signed_in)
    page.goto("/cases/new/")
    for _ in range(2):
        with page.expect_file_chooser() as chosen:
            page.locator('[data-pick="folder"]').click()
        chosen.value.set_files(tmp_path / "both")
        expect(page.locator(".file")).to_have_count(2)
    expect(page.get_by_text("2 already selected")).to_be_visible()
