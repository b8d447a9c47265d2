"""Every page in Chromium is accessible, fits a phone, and shows a way on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("axe_playwright_python", reason="the extra `browser` is not installed")

from axe_playwright_python.base import AXE_SCRIPT

import wsgi_oauth
from tools.visits import APPLICATION, DEMO, FAILURES, Servers, Visit, all_servers
from wsgi_oauth.web.page_templates import PageTemplates

PACKAGE = Path(wsgi_oauth.__file__).parent
VARIANTS = list(product((375, 1280), ("light", "dark")))
# By default, axe-core checks WCAG 2.1 A and AA, and best practices. `target-size` is a rule of WCAG 2.2 AA.
RUN_AXE = "axe.run({resultTypes: ['violations'], rules: {'target-size': {enabled: true}}})"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with all_servers() as servers:
        yield servers


def templates(folder: str) -> set[str]:
    """Return the templates of pages in *folder* of the package."""
    return {path.name for path in (PACKAGE / folder).rglob("*.html")} - {"layout.html"}


@pytest.mark.parametrize(
    ("folder", "visits"), [("web/templates", APPLICATION + FAILURES), ("demo/templates", DEMO)], ids=("product", "demo")
)
def test_every_template_is_visited(folder: str, visits: list[Visit]) -> None:
    assert templates(folder) <= {visit.template for visit in visits}, "tools/visits.py needs an entry"


def find_violations(page: Any, width: int, scheme: str) -> list[str]:
    """Return the violations that axe-core finds on *page* at *width*, in pixels, and in the colour *scheme*."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    return [
        f"{width} px, {scheme}: {violation['id']} at {node['target']}: {node['failureSummary']}\n{node['html'][:300]}"
        for violation in page.evaluate(RUN_AXE)["violations"]
        for node in violation["nodes"]
    ]


def find_other_faults(page: Any) -> list[str]:
    """Return the faults of *page* that axe-core does not look for."""
    # 320 pixels are the width of a window of 1280 pixels at a zoom of 400 % (WCAG 2.2, 1.4.10).
    page.set_viewport_size({"width": 320, "height": 600})
    faults = {
        "it is wider than 320 pixels": page.evaluate("document.documentElement.scrollWidth > 320"),
        "it is a dead end": page.locator("a[href], button, summary").count() == 0,
    }
    return [fault for fault, is_present in faults.items() if is_present]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the templates that the applications of this process render."""
    names: list[str] = []
    render = PageTemplates.render

    def record(templates: PageTemplates, name: str, *arguments: Any, **more: Any) -> str:
        names.append(name)
        return render(templates, name, *arguments, **more)

    monkeypatch.setattr(PageTemplates, "render", record)
    return names


@pytest.mark.parametrize("visit", APPLICATION, ids=lambda visit: visit.name)
def test_page_of_the_application_is_accessible(visit: Visit, page: Any, servers: Servers, rendered: list[str]) -> None:
    visit.go(page, servers)
    assert rendered[-1] == visit.template
    variants = VARIANTS[::3] if APPLICATION.index(visit) % 2 else VARIANTS[1:3]
    faults = [fault for variant in variants for fault in find_violations(page, *variant)]
    assert faults + find_other_faults(page) == []


@pytest.mark.parametrize("visit", DEMO, ids=lambda visit: visit.name)
def test_page_of_the_demo_is_accessible(visit: Visit, page: Any, servers: Servers) -> None:
    """The pages are long and have the same layout, so each is checked in one of the variants."""
    visit.go(page, servers)
    variant = VARIANTS[DEMO.index(visit) % len(VARIANTS)]
    assert find_violations(page, *variant) + find_other_faults(page) == []


def test_pages_of_all_errors_are_accessible(page: Any, servers: Servers) -> None:
    """Pages with the same elements and other texts are checked once by axe-core, in alternating variants."""
    faults, known, variants = [], set(), cycle(VARIANTS)
    for visit in FAILURES:
        visit.go(page, servers)
        found = find_other_faults(page)
        elements = page.evaluate("[...document.querySelectorAll('body *')].map(each => each.cloneNode().outerHTML)")
        key = re.sub(r'(href|action|value)="[^"]*"', "", "".join(elements))
        if key not in known:
            known.add(key)
            found += find_violations(page, *next(variants))
        faults += [f"{visit.name}: {fault}" for fault in found]
    assert faults == []


@pytest.mark.parametrize("visit", [APPLICATION[0], DEMO[0]], ids=lambda visit: visit.name)
def test_page_is_printed_in_light_colours(visit: Visit, page: Any, servers: Servers) -> None:
    """In the dark scheme, the text would be nearly white, and browsers print no background."""
    visit.go(page, servers)
    colours = set()
    for scheme in ("dark", "light"):
        page.emulate_media(media="print", color_scheme=scheme)
        colours.add(page.evaluate("getComputedStyle(document.body).color"))
    assert len(colours) == 1


def test_pages_in_another_language_fit_a_phone(connected_chromium: Any, servers: Servers) -> None:
    """German has the longest words, which need a place to break."""
    needs_no_english_button = {"providers", "profile", "tokens-none", "sign-out", "not-allowed", "not-found"}
    visits = [visit for visit in APPLICATION if visit.name in needs_no_english_button] + FAILURES[::8]
    with connected_chromium.new_context(locale="de") as context:
        page, faults = context.new_page(), []
        for visit in visits:
            context.clear_cookies()
            visit.go(page, servers)
            assert page.locator("html").get_attribute("lang") == "de", visit.name
            faults += [f"{visit.name}: {fault}" for fault in find_other_faults(page)]
    assert faults == []
