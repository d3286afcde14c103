"""Looking at a page as it is drawn: what axe has against it, what sticks out, what is small."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

# axe's way back to us costs more than its work: only what is wrong makes it.
_RUN = """rules => axe.run(document, {
    iframes: false, resultTypes: ["violations"], elementRef: false,
    ...(rules.length ? {runOnly: rules} : {rules: {"target-size": {enabled: true}}}),
}).then(found => found.violations.flatMap(one => one.nodes.map(
    node => `${one.id}: ${node.target} ${node.failureSummary}`)))"""
COLOURS = ("color-contrast", "link-in-text-block")
SIZES = ("target-size",)
# What a line of text holds is as high as the line (WCAG 2.2, 2.5.8: inline).
_SMALL = """least => [...document.querySelectorAll(
        "a[href], button, input, select, textarea, summary")]
    .filter(one => one.checkVisibility() && !one.closest(".unseen, .skip, [aria-hidden]")
        && !one.matches("[type=hidden]"))
    .map(one => [one.closest("label.tick") || one, one])
    .filter(([box, one]) => {
        if (box.getBoundingClientRect().height + 0.01 >= least) return false;
        const around = one.parentElement.cloneNode(true);
        for (const other of around.querySelectorAll("a, button")) other.remove();
        const inText = /\\p{L}{2}/u.test(around.textContent);
        return !(getComputedStyle(one).display === "inline" && inText);
    })
    .map(([box, one]) => `${one.tagName} ${(one.textContent || one.name).trim().slice(0, 40)}: `
        + `${box.getBoundingClientRect().height.toFixed(1)} px`)"""
_STICKS_OUT = """() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    const out = [...document.body.querySelectorAll("*")].filter(one => {
        const box = one.getBoundingClientRect();
        return box.width && (box.right > room + 1 || box.left < -1) && one.checkVisibility()
            && !one.closest(".unseen, .skip");
    });
    return [`${document.documentElement.scrollWidth} px of ${room}: `
        + out.slice(0, 3).map(one => one.tagName + "." + one.className).join(", ")];
}"""


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page, rules: Iterable[str] = ()) -> list[str]:
    """What axe-core has against the page, as `rule: where`, by all rules or by these."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_axe())
    return list(page.evaluate(_RUN, list(rules)))


def sideways(page: Page) -> list[str]:
    """How wide the page scrolls, and what makes it so; nothing where it does not."""
    return list(page.evaluate(_STICKS_OUT))


def small(page: Page, least: int) -> list[str]:
    """What is to be pressed and lower than so many px."""
    return list(page.evaluate(_SMALL, least))


def enlarge(page: Page, times: float) -> Any:
    """Make all text so much larger, as a browser's setting does, and the viewport stay."""
    return page.evaluate(
        "times => { document.documentElement.style.fontSize = times === 1 ? '' : `${times}00%`; }",
        times,
    )
