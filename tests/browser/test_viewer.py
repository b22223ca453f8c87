"""The viewer of an image: plain at first, the map while M is held, keys for zoom, rotation and full screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.live.conftest import Stack

pytestmark = [pytest.mark.browser, pytest.mark.live]


@pytest.fixture(scope="module")
def slide(chromium: Browser, stack: Stack, signed_in: Any, images: Path) -> str:
    """The address of an analysed image."""
    context = chromium.new_context(base_url=stack.url, storage_state=signed_in)
    page = context.new_page()
    page.goto("/cases/new/?mode=single")
    page.locator("input[type=file]").first.set_input_files(images / "synthetic-1.png")
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url(re.compile(r"/slides/[0-9a-f-]{36}/"))
    expect(page.locator(".verdict-card")).to_be_visible(timeout=90_000)
    address = page.url
    context.close()
    return address


@pytest.fixture
def viewer(window: Callable[..., Page], signed_in: Any, slide: str) -> Page:
    page = window(state=signed_in)
    page.goto(slide)
    expect(page.locator("[data-viewer].ready")).to_be_visible()
    expect(page.locator("[data-marks]")).to_be_visible()
    return page


def picture(page: Page) -> bytes:
    page.wait_for_timeout(700)
    return page.locator("[data-canvas]").screenshot()


def pressed(page: Page, layer: str) -> None:
    expect(page.locator(f"[data-layer={layer}]")).to_have_attribute("aria-pressed", "true")


def test_the_map_is_shown_while_m_is_held(viewer: Page, complaints: list[str]) -> None:
    pressed(viewer, "none")
    plain = picture(viewer)
    viewer.keyboard.down("m")
    pressed(viewer, "patch")
    assert picture(viewer) != plain
    viewer.keyboard.up("m")
    pressed(viewer, "none")
    assert picture(viewer) == plain
    # Of the two maps, the one chosen last; and the plain image where a map is on.
    viewer.get_by_role("button", name="Activation").click()
    viewer.keyboard.down("m")
    pressed(viewer, "none")
    viewer.keyboard.up("m")
    pressed(viewer, "activation")
    viewer.get_by_role("button", name="None", exact=True).click()
    viewer.keyboard.down("m")
    pressed(viewer, "activation")
    viewer.keyboard.up("m")
    pressed(viewer, "none")
    assert complaints == []


def test_the_most_suspicious_patches_are_outlined(viewer: Page) -> None:
    expect(viewer.locator(".patch-rank")).to_have_text(["1", "2", "3"])
    outlined = picture(viewer)
    viewer.locator("[data-marks]").uncheck()
    assert picture(viewer) != outlined
    viewer.reload()
    expect(viewer.locator("[data-viewer].ready")).to_be_visible()
    expect(viewer.locator("[data-marks]")).not_to_be_checked()


def test_keys_zoom_rotate_and_fill_the_screen(viewer: Page, complaints: list[str]) -> None:
    navigator = viewer.locator(".navigator")
    expect(navigator).to_be_hidden()
    fitted = picture(viewer)
    viewer.keyboard.press("3")
    expect(navigator).to_be_visible()
    assert picture(viewer) != fitted
    viewer.keyboard.press("1")
    expect(navigator).to_be_hidden()
    assert picture(viewer) == fitted
    viewer.keyboard.press("r")
    assert picture(viewer) != fitted
    viewer.keyboard.press("Shift+R")
    assert picture(viewer) == fitted
    viewer.keyboard.press("f")
    full = viewer.get_by_role("button", name="Full screen")
    expect(full).to_have_attribute("aria-pressed", "true")
    expect(navigator).to_be_hidden()  # a fitted image stays fitted
    viewer.keyboard.press("f")
    expect(full).to_have_attribute("aria-pressed", "false")
    assert picture(viewer) == fitted
    assert complaints == []


def test_a_rotated_image_gives_the_patch_under_the_pointer(viewer: Page) -> None:
    box = viewer.locator("[data-canvas]").bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = viewer.locator("[data-tip]")

    def above_the_middle() -> str:
        viewer.mouse.move(*middle)
        viewer.mouse.move(middle[0], middle[1] - box["height"] / 3)
        expect(tip).to_be_visible()
        return tip.inner_text()

    upright = above_the_middle()
    for _ in range(2):
        viewer.keyboard.press("r")
    viewer.wait_for_timeout(700)
    assert above_the_middle() != upright


def test_the_result_comes_before_the_viewer_on_a_phone(window: Callable[..., Page], signed_in: Any, slide: str) -> None:
    page = window("narrow", "dark", signed_in)
    page.goto(slide)
    expect(page.locator("[data-viewer].ready")).to_be_visible()
    verdict, viewer = page.locator(".verdict-card").bounding_box(), page.locator("[data-viewer]").bounding_box()
    assert verdict and viewer
    assert verdict["y"] + verdict["height"] <= viewer["y"]
