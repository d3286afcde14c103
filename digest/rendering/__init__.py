"""Papers and reasons become the two bodies of a mail: HTML and text.

    entries -- Renderer.cards() ----> one Part a card --.
    site ----- Renderer.skeleton() -> one Part ----------+-- compose() -> html, text
    person --- Renderer.personal() -> words, frozen ----'

Parts are rendered once for each content and kept; `compose` only substitutes, so a digest frozen
today is the same bytes tomorrow, whatever became of templates, votes or the site's name.
"""

from __future__ import annotations

from digest.rendering.card import Entry
from digest.rendering.parts import BUDGET, compose, fit
from digest.rendering.renderer import Renderer

__all__ = ["BUDGET", "Entry", "Renderer", "compose", "fit"]
