"""Every page under axe, in both themes and two widths, without a word in the console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.live.conftest import Stack

pytestmark = [pytest.mark.browser, pytest.mark.live]

OPEN = ["/", "/help/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"]
OWN = [
    "/cases/", "/cases/?verdict=benign&state=done", "/cases/new/", "/statistics/", "/status/",
    "/accounts/preferences/", "/accounts/email/", "/accounts/password/change/", "/accounts/2fa/",
    "/accounts/sessions/", "/accounts/tokens/", "CASE", "CASEedit/", "CASEdelete/", "SLIDE", "SLIDEdelete/",
]  # fmt: skip
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def addresses(chromium: Browser, stack: Stack, signed_in: Any) -> dict[str, str]:
    """A finished case of synthetic images, and its first slide."""
    context = chromium.new_context(base_url=stack.url, storage_state=signed_in)
    page = context.new_page()
    page.goto("/cases/new/")
    page.get_by_role("button", name="Try it with synthetic images").click()
    expect(page.locator(".slide[data-state=done]")).to_have_count(3, timeout=120_000)
    found = {"CASE": page.url.removeprefix(stack.url)}
    page.locator(".slide-link").first.click()
    found["SLIDE"] = page.url.removeprefix(stack.url)
    context.close()
    return found


def check(page: Page, address: str) -> list[str]:
    """What is wrong with a page: rules broken, or wider than its window."""
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == 200, address
    page.wait_for_load_state("networkidle")
    found = [
        f"{address}: {violation['id']} {[node['target'] for node in violation['nodes']]}"
        for violation in Axe().run(page, options=RULES).response["violations"]
    ]
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        found.append(f"{address}: wider than the window")
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_pages(
    window: Callable[..., Page], signed_in: Any, addresses: dict[str, str], complaints: list[str], size: str, theme: str
) -> None:
    problems = []
    stranger, owner = window(size, theme), window(size, theme, signed_in)
    for address in OPEN:
        problems += check(stranger, address)
    for address in OWN:
        for name, real in addresses.items():
            address = address.replace(name, real)
        problems += check(owner, address)
    assert problems == []
    assert complaints == []


def test_the_open_patch_and_the_menu(window: Callable[..., Page], signed_in: Any, addresses: dict[str, str]) -> None:
    page = window(state=signed_in)
    assert check(page, addresses["SLIDE"]) == []
    page.locator("[data-canvas]").click()
    expect(page.locator("[data-dialog]")).to_be_visible()
    assert Axe().run(page, options=RULES).response["violations"] == []
    page.keyboard.press("Escape")
    page.locator("summary[aria-label^='Account menu']").click()
    assert Axe().run(page, options=RULES).response["violations"] == []


def test_a_page_is_light_to_load(window: Callable[..., Page], signed_in: Any, addresses: dict[str, str]) -> None:
    """At most 150 kB of text, style and script as sent, images aside."""
    page = window(state=signed_in)
    sizes: list[int] = []

    def add(request: Any) -> None:
        if request.resource_type in ("document", "stylesheet", "script"):
            sizes.append(request.sizes()["responseBodySize"])

    page.on("requestfinished", add)
    page.goto(addresses["CASE"])
    page.wait_for_load_state("networkidle")
    assert 5_000 < sum(sizes) <= 150_000, sizes
