"""Debian's Chromium before a running application."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from cases.images import synthetic
from tests.live.conftest import Stack, stack

__all__ = ["stack"]

expect.set_options(timeout=20_000)

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run",
]  # fmt: skip
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}


@pytest.fixture(scope="session")
def model_dir(random_checkpoint: Path) -> Path:
    """Random weights without a domain check, so that synthetic images get maps to look at."""
    return random_checkpoint.parent


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("there is no Chromium (set CHROMIUM to its path)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console said that it should not have."""
    return []


@pytest.fixture
def window(chromium: Browser, stack: Stack, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Opens a window of a size and theme; its console is listened to."""
    contexts: list[BrowserContext] = []

    def listen(page: Page) -> None:
        def note(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complaints.append(f"{message.text} ({message.location.get('url')})")

        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))

    def make(size: str = "wide", theme: str = "light", state: Any = None) -> Page:
        context = chromium.new_context(
            base_url=stack.url, viewport=SIZES[size], color_scheme=theme, storage_state=state, accept_downloads=True
        )
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        listen(page)
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three synthetic images, a text file, and a picture that is none."""
    folder = tmp_path_factory.mktemp("images")
    for file in synthetic.uploads():
        (folder / str(file.name)).write_bytes(file.read())
    (folder / "notes.txt").write_text("not for upload")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


@pytest.fixture(scope="session")
def signed_in(chromium: Browser, stack: Stack) -> Any:
    """Cookies of the demo account."""
    context = chromium.new_context(base_url=stack.url)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.fill("input[name=login]", stack.username)
    page.fill("input[name=password]", stack.password)
    page.click("main button[type=submit]")
    page.wait_for_url("**/cases/")
    state = context.storage_state()
    context.close()
    return state
