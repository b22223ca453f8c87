"""Template tags and filters."""

from __future__ import annotations

from django import template
from django.forms import BoundField
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from cases.web.icons import ICONS

register = template.Library()


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """An icon by name, hidden from screen readers unless it has a label."""
    inner = mark_safe(ICONS[name])  # noqa: S308 - constants of this module
    attributes = format_html('role="img" aria-label="{}"', label) if label else mark_safe('aria-hidden="true"')
    return format_html(
        '<svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" '
        'stroke-linecap="round" stroke-linejoin="round" {}>{}</svg>',
        attributes,
        inner,
    )


@register.filter
def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage, never rounded to 0 or 100: 0.9999 gives ``> 99.9 %``."""
    if value is None:
        return "–"
    low, high = 0.1**digits, 100 - 0.1**digits
    number = 100 * value
    if 0 < number < low:
        return f"< {low:.{digits}f}\N{NO-BREAK SPACE}%"
    if high < number < 100:
        return f"> {high:.{digits}f}\N{NO-BREAK SPACE}%"
    return f"{number:.{digits}f}\N{NO-BREAK SPACE}%"


@register.filter
def at(value: float | None) -> str:
    """A fraction as a length for SVG attributes."""
    return f"{100 * (value or 0):.2f}%"


@register.filter
def width_between(low: float, high: float) -> str:
    """The distance between two fractions as a length for SVG attributes."""
    return f"{100 * (high - low):.2f}%"


@register.filter
def anchor(share: float, inward: str) -> str:
    """SVG text anchor of a label on a scale: ``inward`` unless the label would extend beyond either end."""
    if share < 0.15:
        return "start"
    return "end" if share > 0.85 else inward


@register.filter
def megabytes(size: int) -> str:
    """A number of bytes in MB."""
    return f"{size / 2**20:.0f} MB"


@register.filter
def megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:.0f} megapixels"


@register.filter
def widget_kind(field: BoundField) -> str:
    """Layout of a form field: ``checkbox``, ``radio`` or ``text``."""
    kind = type(field.field.widget).__name__
    return {"CheckboxInput": "checkbox", "RadioSelect": "radio", "CheckboxSelectMultiple": "radio"}.get(kind, "text")


#: Characters at the end of a file name that are always shown, because number and suffix tell images apart.
TAIL = 11


@register.filter
def head(name: str) -> str:
    """The start of a file name, which may be truncated in narrow places."""
    return name[:-TAIL] if len(name) > 2 * TAIL else name


@register.filter
def tail(name: str) -> str:
    """The end of a file name, which is always shown."""
    return name[-TAIL:] if len(name) > 2 * TAIL else ""


BROWSERS = [("Edg/", "Edge"), ("OPR/", "Opera"), ("Chrome/", "Chrome"), ("Firefox/", "Firefox"), ("Safari/", "Safari")]
SYSTEMS = [
    ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Mac OS", "macOS"),
    ("Linux", "Linux"),
]  # fmt: skip


@register.filter
def browser(agent: str) -> str:
    """Browser and system named in a user agent string, so that users recognise their devices."""
    name = next((name for mark, name in BROWSERS if mark in agent), "Unknown browser")
    system = next((name for mark, name in SYSTEMS if mark in agent), "")
    return f"{name} on {system}" if system else name
