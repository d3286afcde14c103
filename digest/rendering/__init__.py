"""Papers and reasons become a mail: its two bodies, HTML and text, and its bytes.

    entries -- Renderer.cards() ----> one Part a card --.
    site ----- Renderer.skeleton() -> one Part ----------+-- compose() --> html, text: to look at
    person --- Renderer.personal() -> words, frozen ----'`-- Assembler --> the mail's bytes

Parts are rendered once for each content and kept, and encoded once in a process; what is left only
substitutes, so a digest frozen today is the same bytes tomorrow, whatever became of templates,
votes or the site's name.
"""

from __future__ import annotations

from digest.rendering.assembly import Assembler, assemble
from digest.rendering.card import Entry
from digest.rendering.parts import BUDGET, compose, fit
from digest.rendering.renderer import Renderer

__all__ = ["BUDGET", "Assembler", "Entry", "Renderer", "assemble", "compose", "fit"]
