"""Text as sources send it, cleaned once at the edge; the claim sentence of an abstract."""

from __future__ import annotations

import html
import re
import unicodedata

from digest.papers.tex import tex_to_text

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# Controls, lone surrogates, private use and noncharacters; what reorders text or hides in it:
# bidi marks, overrides and isolates, zero-width space, soft hyphen, byte-order mark.
_REFUSED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
_DASH = re.compile(r"(?<=\w)(--|---)(?=\w)|(?<=\s)(--|---)(?=\s)")
_QUOTED = re.compile(r"``(.{1,300}?)''")
# Each pass undoes one level of escaping; feeds escape twice, nobody eight times.
_PASSES = 8


def clean_title(raw: str) -> str:
    """One line of plain text: no markup, no TeX, no controls, blanks folded, NFC.

    Cleaning what is clean changes nothing.
    """
    text = raw
    for _ in range(_PASSES):
        before, text = text, _clean_once(text)
        if text == before:
            break
    return text


def clean_abstract(raw: str) -> str:
    """An abstract as one paragraph, cleaned as a title is."""
    return clean_title(raw)


def clean_name(raw: str) -> str:
    r"""An author's name: TeX accents (`Andr\'e`) and braces resolved, no comma left at an end."""
    return clean_title(clean_title(raw).replace("{", "").replace("}", "").strip(" ,;"))


def _clean_once(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    text = _fold(text)
    if "\\" in text or "$" in text:
        text = _fold(tex_to_text(text))
    if "--" in text:
        text = _DASH.sub(lambda found: "–" if len(found[0]) == 2 else "—", text)
    if "``" in text:
        text = _QUOTED.sub(r"“\1”", text)
    return text


def _fold(text: str) -> str:
    text = _REFUSED.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())


# ------------------------------------------------------------------ sentences

# A run of dots is looked at from its first one alone, and of what stands around it only so much:
# else a text that is made for it takes minutes.
_END = re.compile(r"(?<![.!?])[.!?]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_])")
_AROUND = 40  # characters
_NEVER_LAST = re.compile(
    r"cf|ch|chap|dr|e\.g|eds?|eg|eqn?s?|figs?|i\.e|ie|lem|mrs?|ms|pp?|prof|prop|refs?|resp|secs?|sect|"
    r"st|tab|thm|vol|vs|viz|w\.r\.t|wrt",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"nos?|nr", re.IGNORECASE)
_SELDOM_LAST = re.compile(
    r"[a-z]|(?:[a-z]\.)+[a-z]|al|alg|approx|ca|cor|def|dept|est|ex|exp|inc|incl|jr|lim|ltd|max|min|"
    r"sr|suppl",
    re.IGNORECASE,
)
_LAST_WORD = re.compile(r"([^\s(\[\"“]*)[.]$")
# After an initial and the like only these begin a sentence ("vitamin C. We", "et al. We").
_OPENERS = re.compile(
    r"(?:We|Our|This|These|That|The|In|To|It|Its|However|Here|Moreover|Finally|For|A|An)\b"
)

_VERB = (
    r"(?:propos|present|introduc|show|demonstrat|develop|describ|design|releas|build|built|"
    r"contribut|study|studie|investigat|explor|examin|analy[sz]|prov|find|found|report|argu|"
    r"propound|formulat|establish|construct|offer|provid|survey|review|evaluat|benchmark|revisit|"
    r"conduct|address|deriv|devis|formali[sz]|tackl|creat|collect|train|unveil|apply|us)"
    r"(?:e|ed|es|s|y|ies|ing)?\b"
)
_CLAIM = re.compile(
    rf"\b[Ww]e (?:(?:\w+ly|also|then|first|further|here|thus|therefore) ){{0,2}}{_VERB}"
    r"|^(?:In|With) this (?:paper|work|article|study|report|survey|letter|note|thesis)\b"
    r"|^(?:This|The present) (?:paper|work|article|study|report|survey|letter|note|thesis|review)\b"
    r"|\b(?:is|are) (?:proposed|presented|introduced)\b"
)


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of an abstract, whole; "et al.", "Fig. 3" and "0.5" end none."""
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        before = text[max(start, end.start() - _AROUND) : end.start() + 1]
        if _ends_sentence(before, text[end.end() : end.end() + _AROUND]):
            found.append(text[start : end.end()].strip())
            start = end.end()
    rest = text[start:].strip()
    return (*found, rest) if rest else tuple(found)


def _ends_sentence(before: str, after: str) -> bool:
    following = after.lstrip("\"'“‘([")[:1]
    if following.islower():
        return False
    last = _LAST_WORD.search(before)
    if last is None:  # ! or ?
        return True
    word = last[1]
    if _NEVER_LAST.fullmatch(word):
        return False
    if _NUMBER.fullmatch(word):
        return not following.isdigit()
    if _SELDOM_LAST.fullmatch(word):
        return bool(_OPENERS.match(after))
    return True


def claim(abstract: str) -> str:
    """The first sentence that says what the work does ("We propose ..."), else the first one."""
    every = sentences(abstract)
    for sentence in every:
        if _CLAIM.search(sentence):
            return sentence
    return every[0] if every else ""
