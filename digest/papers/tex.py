"""TeX markup in titles and abstracts, turned into Unicode text.

pylatexenc parses and knows the symbols; this adds what a reader of plain text needs: raised and
lowered characters (M$^2$ is M², not M^2), spaces around function names, letters of a mathematical
font as plain letters, and money ("$5") told apart from formulas.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

from pylatexenc import latex2text, latexwalker
from pylatexenc.macrospec import LatexContextDb, std_macro

_RAISED = str.maketrans(
    "0123456789+-−=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVWβγδθφχ",
    "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵝᵞᵟᶿᵠᵡ",
)
_LOWERED = str.maketrans(
    "0123456789+-−=()aehijklmnoprstuvxβγρφχ",
    "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ",
)
# Signs that stand high by themselves.
_HIGH = {"∗": "*", "⋆": "*", "'": "′", "∘": "°", "⊤": "ᵀ"}
_HIGH |= {sign: sign for sign in "*°†‡®™"}

# A pointer into the full text says nothing in a list of titles.
_POINTER = re.compile(
    r"[~\s]*\\(?:[cC]ite[a-zA-Z]*|eqref|autoref|[cC]?ref|label|thanks|footnotemark)"
    r"\*?(?:\[[^\]]*\])*\{[^{}]*\}"
)
_SIZE = re.compile(r"\s*\\right(?![a-zA-Z])\.?|\\(?:left|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\.?\s*")
_TIE = re.compile(r"(?<=[\w.,)])~(?=[\w$\\(])")
_GLUED = re.compile(r"(\\[A-Za-z]+)(?=[^\W\d_A-Za-z])")  # the parser would take \hatλ for one name
_SCRIPT = re.compile(r"([\^_])")
_CLOSING = ("⟩", "‖", "⌉", "⌋", "}", "]")
_DECIMAL = re.compile(r"\d+\.\d+")  # PM2.5

_APART = re.compile(r"^\s|\s$")
_AMOUNT = re.compile(r"\d[\d.,]*[^\s\d]*\s")  # and more words
_MARKUP = re.compile(r"[\\^_{]")

_FONTS = (
    "mathbf mathit mathsf mathtt mathcal mathscr mathfrak mathrm textit textbf texttt textsc "
    "textsf textsl textrm emph text underline"
)
# These stand before a group and leave it as it is, or say nothing to a reader.
_SILENT = (
    "operatorname mathop mathrel mathbin mathord mathnormal boldsymbol bm pmb bold mbox hbox "
    "textnormal textup textmd uline ul tt rm bf it sc sf em displaystyle textstyle scriptstyle "
    "limits nolimits protect xspace left right nonumber noindent centering par newline linebreak "
    "small large keywords boldmath unboldmath ensuremath mathchoice today maketitle input include "
    "title author date - / @"
)
_FUNCTIONS = "arg argmax argmin det dim gcd ker Pr deg hom mod bmod sec csc cot coth lg"
_WORDS = {
    **{name: name for name in _FUNCTIONS.split()},
    "TeX": "TeX",
    "LaTeX": "LaTeX",
    "|": "‖",
    "eg": "e.g.",
    "ie": "i.e.",
    "etal": "et al.",
    "iid": "i.i.d.",
    "wrt": "w.r.t.",
    "bot": "⊥",
    "iff": "⇔",
    "implies": "⇒",
    "impliedby": "⇐",
    "gets": "←",
    "land": "∧",
    "lor": "∨",
    "lnot": "¬",
    "neg": "¬",
    "colon": ":",
    "lbrace": "{",
    "rbrace": "}",
    "lbrack": "[",
    "rbrack": "]",
    "slash": "/",
    "star": "⋆",
    "textquotesingle": "'",
    "textquotedbl": '"',
    "textunderscore": "_",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textdollar": "$",
    "textpercent": "%",
}


def tex_to_text(text: str) -> str:
    """`text` with its TeX markup as Unicode; text without markup, or that is no TeX, unchanged.

    Never raises: what the parser cannot read stays as it was. An unknown command stays too, with
    its backslash, unless a braced argument shows that it is one.
    """
    marked = _delimit_math(text)
    if "\\" not in text and "\\(" not in marked:
        return text
    marked = _TIE.sub(" ", _SIZE.sub("", _POINTER.sub("", marked)))
    marked = re.sub(r"(?<!\\)%", r"\\%", _GLUED.sub(r"\1 ", marked))
    walker = latexwalker.LatexWalker(marked, latex_context=_walker_context(), tolerant_parsing=True)
    try:
        nodes = walker.get_latex_nodes()[0]
        return str(_Renderer(_text_context()).nodelist_to_text(nodes))
    except (latexwalker.LatexWalkerError, LookupError, ValueError, RecursionError):
        return text  # an environment or a command without its arguments


def _delimit_math(text: str) -> str:
    r"""Formulas between dollars as \(...\), every other dollar escaped."""
    if "$" not in text:
        return text
    text = re.sub(r"\$\$(.+?)\$\$", r"$\1$", text)
    parts: list[str] = []
    done = 0
    dollars = [at for at, char in enumerate(text) if char == "$" and text[at - 1 : at] != "\\"]
    for start, end in zip_longest(dollars, dollars[1:]):
        if start < done:
            continue
        body = text[start + 1 : end] if end is not None else ""
        if end is not None and _is_formula(body, text[end + 1 : end + 2]):
            parts += [text[done:start], "\\(", body, "\\)"]
            done = end + 1
        else:
            parts += [text[done:start], "\\$"]
            done = start + 1
    return "".join([*parts, text[done:]])


def _is_formula(body: str, after: str) -> bool:
    """Whether the text between two dollars is a formula and no sentence between two prices.

    As in Pandoc a formula touches its dollars and no digit follows it; markup or a lone sign
    inside ("1$-$2") outweighs the digit, a command also the blanks.
    """
    if not body.strip():
        return False
    if _APART.search(body):
        return "\\" in body
    if _MARKUP.search(body) or not any(char.isalnum() for char in body):
        return True
    return not after.isdigit() and not _AMOUNT.match(body)


@cache
def _walker_context() -> LatexContextDb:
    # Without specials: & ~ and quotes are text to us.
    context = latexwalker.get_default_latex_context_db().filter_context(
        keep_which=["macros", "environments"]
    )
    context.add_context_category(
        "digest",
        macros=[
            std_macro("href", "{{"),
            std_macro("hyperlink", "{{"),
            std_macro("color", "{"),
            *(std_macro(name, "{{") for name in ("binom", "tfrac", "dfrac")),
            *(std_macro(name, "{") for name in ("textsuperscript", "textsubscript")),
            *(std_macro(name, "") for name in _SILENT.split()),
        ],
        prepend=True,
    )
    return context


@cache
def _text_context() -> LatexContextDb:
    context = latex2text.get_default_latex_context_db()
    spec = latex2text.MacroTextSpec
    context.add_context_category(
        "digest",
        macros=[
            *(spec(name, discard=False) for name in _FONTS.split()),
            *(spec(name, discard=True) for name in _SILENT.split()),
            *(spec(name, text) for name, text in _WORDS.items()),
            spec("href", lambda node, l2tobj: l2tobj.node_arg_to_text(node, 1)),
            spec("hyperlink", lambda node, l2tobj: l2tobj.node_arg_to_text(node, 1)),
            spec("color", discard=True),
            spec("binom", "(%s %s)"),
            *(spec(name, "%s/%s") for name in ("frac", "tfrac", "dfrac", "nicefrac")),
            spec("url", lambda node, l2tobj: l2tobj.node_arg_to_text(node, 0)),
            spec(
                "textsuperscript",
                lambda node, l2tobj: _script("^", l2tobj.node_arg_to_text(node, 0)),
            ),
            spec(
                "textsubscript",
                lambda node, l2tobj: _script("_", l2tobj.node_arg_to_text(node, 0)),
            ),
        ],
        prepend=True,
    )
    return context


class _Renderer(latex2text.LatexNodes2Text):  # type: ignore[misc]
    """pylatexenc's renderer with scripts, and with the blanks that a reader expects."""

    def __init__(self, context: LatexContextDb) -> None:
        super().__init__(latex_context=context, math_mode="text")

    def nodelist_to_text(self, nodelist: Sequence[Any]) -> str:
        out = ""
        script = ""  # a pending ^ or _ that takes what comes next
        for node in nodelist:
            if node is None:
                continue
            in_math = node.parsing_state.in_math_mode
            if node.isNodeType(latexwalker.LatexCharsNode):
                if not in_math:
                    out += node.chars
                    continue
                for piece in _SCRIPT.split(node.chars):
                    if piece in ("^", "_"):
                        out += script
                        script = piece
                    elif script and piece.strip():
                        raised = piece.lstrip()
                        out += _script(script, raised[0]) + raised[1:]
                        script = ""
                    elif not script:
                        out += piece
                continue
            text = self.node_to_text(node)
            if script:
                text, script = _script(script, text), ""
            elif in_math and text.isascii() and text.isalpha() and _is_macro(node, text):
                text = f" {text}" if out[-1:].isalnum() else text
                text += node.macro_post_space
            elif node.isNodeType(latexwalker.LatexMacroNode):
                if in_math and text in _CLOSING:
                    out = out.rstrip()
                text += _post_space(node, text, in_math=in_math, before=out)
            out += text
        return out + script

    def macro_node_to_text(self, node: Any) -> str:
        name: str = node.macroname
        if self.latex_context.get_macro_spec(name) is not None:
            return str(super().macro_node_to_text(node))
        if node.nodeargd is not None and node.nodeargd.argnlist:
            return "".join(self._groupnodecontents_to_text(part) for part in node.nodeargd.argnlist)
        end = node.pos + node.len
        return name if node.parsing_state.s[end : end + 1] == "{" else f"\\{name}"

    def apply_simplify_repl(self, node: Any, simplify_repl: Any, what: str) -> str:
        text = str(super().apply_simplify_repl(node, simplify_repl, what))
        if text == simplify_repl and "%s" in text:
            raise ValueError(f"{what} lacks an argument")
        return text


def _is_macro(node: Any, name: str) -> bool:
    return bool(node.isNodeType(latexwalker.LatexMacroNode)) and node.macroname == name


def _post_space(node: Any, text: str, *, in_math: bool, before: str) -> str:
    """The blanks after a command, which TeX eats, where a reader misses them."""
    blank: str = node.macro_post_space
    if in_math:
        return blank if before[-1:].isspace() else ""
    return "" if len(text) == 1 and text.isalpha() else blank


def _script(sign: str, text: str) -> str:
    """`text` raised (sign ^) or lowered (sign _), or with the sign where Unicode cannot."""
    text = text.strip()
    if sign == "^" and text in _HIGH:
        return _HIGH[text]
    table = _RAISED if sign == "^" else _LOWERED
    if all(ord(char) in table for char in text):
        return text.translate(table)
    if sign == "_" and _DECIMAL.fullmatch(text):
        return text
    plain = len(text) == 1 or (text.isascii() and text.isalnum())
    return f"{sign}{text}" if plain else f"{sign}({text})"
