"""Every page under axe, in both themes and two widths, without a word in the console."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.template.loader import render_to_string
from playwright.sync_api import Browser, Page, Route, expect

from tests.live.conftest import Stack

pytestmark = [pytest.mark.browser, pytest.mark.live]

OPEN = ["/", "/help/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"]
OWN = [
    "/cases/", "/cases/?verdict=benign&state=done", "/cases/new/", "/cases/new/?mode=single", "/statistics/",
    "/status/", "/accounts/preferences/", "/accounts/email/", "/accounts/password/change/", "/accounts/2fa/",
    "/help/", "/accounts/sessions/", "/accounts/tokens/", "/accounts/data/",
    "MODEL", "REPORT", "CASE", "CASEtrail/", "CASEedit/", "CASEdelete/", "SLIDE", "SLIDEdelete/",
    "FAILED",
]  # fmt: skip
ADMIN = [
    "/admin/", "/admin/cases/case/", "ADMINCASE", "/admin/cases/slide/", "/admin/cases/review/",
    "/admin/inference/modelversion/", "/admin/inference/analysis/",
    "/admin/inference/analysis/?state__exact=failed&is_current__exact=1",
]  # fmt: skip
ERRORS = [400, 403, 404, 413, 429, 500]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
#: Django's own pages stand outside our templates: held to the standard, not to what axe advises beyond it. Their style
#: sheets import others, which axe would copy into the page as inline style; the security policy refuses that.
ADMIN_RULES = {"runOnly": RULES["runOnly"][:-1], "preload": False}


@pytest.fixture(scope="module")
def addresses(chromium: Browser, stack: Stack, signed_in: Any, images: Path) -> dict[str, str]:
    """A finished case of synthetic images, its first slide, and a case whose only image can't be analysed."""
    context = chromium.new_context(base_url=stack.url, storage_state=signed_in)
    page = context.new_page()
    page.goto("/cases/new/")
    page.get_by_role("button", name="Try it with synthetic images").click()
    expect(page.locator(".slide [data-state=done]")).to_have_count(3, timeout=120_000)
    found = {"CASE": page.url.removeprefix(stack.url)}
    page.locator(".slide-link").first.click()
    found["SLIDE"] = page.url.removeprefix(stack.url)
    found["MODEL"] = str(page.locator("a[href^='/models/']").first.get_attribute("href"))
    page.goto(found["CASE"])
    page.locator("#review").get_by_text("Benign").first.click()
    page.get_by_role("button", name="Sign reading").click()
    page.request.get(found["CASE"] + "report.pdf")
    page.goto("/admin/cases/report/")
    found["REPORT"] = (
        "/reports/" + str(page.locator("#result_list tbody a").first.get_attribute("href")).split("/")[-3] + "/"
    )
    found["ADMINCASE"] = f"/admin/cases/case/{found['CASE'].split('/')[2]}/change/"
    found["FAILED"] = failed(page, stack, images).removeprefix(stack.url)
    context.close()
    return found


def failed(page: Page, stack: Stack, images: Path) -> str:
    """Open a case of one image, take its file away, and have it analysed again."""
    before = set(stack.var.rglob("slides/*/*.png"))
    page.goto("/cases/new/?mode=single")
    page.locator("input[type=file]").first.set_input_files(images / "synthetic-1.png")
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url(re.compile(r"/slides/[0-9a-f-]{36}/"))
    expect(page.locator(".verdict-card")).to_be_visible(timeout=60_000)
    (file,) = set(stack.var.rglob("slides/*/*.png")) - before
    file.unlink()
    page.locator("summary", has_text="More").click()
    page.get_by_role("button", name="Re-analyse").click()
    for _ in range(60):
        if page.get_by_role("button", name="Try again").count():
            break
        page.wait_for_timeout(1000)
        page.reload()
    page.locator(".crumbs a").nth(1).click()
    expect(page.get_by_role("heading", name="No result")).to_be_visible()
    return page.url


def check(page: Page, address: str, rules: dict[str, Any] = RULES) -> list[str]:
    """What is wrong with a page: rules broken, or wider than its window."""
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == 200, address
    page.wait_for_load_state("networkidle")
    return examine(page, address, rules)


def examine(page: Page, address: str, rules: dict[str, Any] = RULES) -> list[str]:
    found = [
        f"{address}: {violation['id']} {[node['target'] for node in violation['nodes']]}"
        for violation in Axe().run(page, options=rules).response["violations"]
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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_error_pages(window: Callable[..., Page], stack: Stack, complaints: list[str], size: str, theme: str) -> None:
    """As the server would send them, in place of its page for a missing one."""
    page = window(size, theme)
    problems = []
    names = json.loads((stack.var / "static" / "staticfiles.json").read_text())["paths"]

    def answer(route: Route) -> None:
        body = render_to_string(f"{route.request.url.rsplit('/', 1)[1]}.html")
        # The running server knows its static files by the names that carry their checksum.
        route.fulfill(
            body=re.sub(r"/static/([^\"]+)", lambda found: f"/static/{names[found[1]]}", body), content_type="text/html"
        )

    page.route("**/an-error/*", answer)
    for code in ERRORS:
        page.goto(f"/an-error/{code}")
        problems += examine(page, str(code))
    assert problems == []
    assert complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_admin(
    window: Callable[..., Page], signed_in: Any, addresses: dict[str, str], complaints: list[str], theme: str
) -> None:
    page = window("wide", theme, signed_in)
    problems = []
    for address in ADMIN:
        problems += check(page, addresses.get(address, address), ADMIN_RULES)
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
