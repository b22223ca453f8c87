"""A reading by keyboard, and on to the next case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.live]


def test_keys_choose_the_opinion_unless_one_is_typing(
    window: Callable[..., Page], signed_in: Any, complaints: list[str]
) -> None:
    page = window(state=signed_in)
    page.goto("/cases/new/")
    page.fill("input[name=title]", "Read by keyboard")
    page.get_by_role("button", name="Create empty case").click()
    expect(page.locator("h1")).to_have_text("Read by keyboard")
    for key, label in (("b", "Benign"), ("u", "Uncertain"), ("m", "Malignant")):
        page.keyboard.press(key)
        expect(page.get_by_label(label, exact=True)).to_be_checked()
    page.locator("#review textarea").focus()
    page.keyboard.type("bub")
    expect(page.locator("#review textarea")).to_have_value("bub")
    expect(page.get_by_label("Malignant", exact=True)).to_be_checked()
    page.reload()
    expect(page.get_by_label("Malignant", exact=True)).to_be_checked()  # kept as a draft
    case = page.url
    page.get_by_role("button", name="Sign and next case").click()
    expect(page.locator(".notices")).to_contain_text("Reading of “Read by keyboard” signed.")
    page.goto(case)
    expect(page.locator(".readings")).to_contain_text("bub")
    expect(page.locator("#review textarea")).to_have_value("")  # the draft went with the reading
    assert complaints == []
