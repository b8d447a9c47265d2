"""A user without a mouse."""

from __future__ import annotations

from typing import Any

MAX_STOPS = 60  # of the Tab key on one page

_FOCUS = """() => {
    const element = document.activeElement;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    const outline = style.outlineStyle !== "none";
    return {
        name: (element.getAttribute("aria-label") || element.innerText || element.labels?.[0]?.innerText || "").trim(),
        is_page: element === document.body,
        is_visible: outline && box.width > 0 && box.height > 0,
        html: element.outerHTML.slice(0, 200),
    };
}"""


def tab_to(page: Any, name: str) -> None:
    """Press Tab until the focused element's name contains *name*. The focus must be visible at each stop."""
    stops = []
    for _ in range(MAX_STOPS):
        page.keyboard.press("Tab")
        focus = page.evaluate(_FOCUS)
        if focus["is_page"]:
            continue
        assert focus["is_visible"], f"the focus is invisible at {focus['html']}"
        if name in focus["name"]:
            return
        stops.append(focus["name"])
    raise AssertionError(f"{name!r} is unreachable with the Tab key; it stops at {stops}")


def press_button(page: Any, name: str, key: str) -> None:
    """Activate a button or a link with *key*, Enter or Space."""
    tab_to(page, name)
    page.keyboard.press(key)
