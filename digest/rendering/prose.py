"""Clean, short text: what hostile, endless or wrapped input becomes before people read it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import urlsplit

from digest.models import Mark

WIDTH = 72  # columns of the text body
LONGEST_URL = 2_000  # characters; browsers and mail programs differ beyond

_BLANK = re.compile(r"[ \t\n\r\f\v]+")  # where a line may end: not at U+00A0
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Direction overrides let a title show other words than it has; surrogates and non-characters
# cannot be encoded.
_UNSEEN = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")
_JOINERS = "\u200d\ufe0e\ufe0f"
# What a shortened title must not end with; titles are English, whatever the mail speaks. It is
# looked for from the end, in the text backwards, for to search from the start takes long.
_SMALL = ("a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to",
          "via", "with")  # fmt: skip
_DANGLING = re.compile(
    rf"(?:(?:{'|'.join(word[::-1] for word in _SMALL)})?[\s,;:·–—-]+)+", re.IGNORECASE
)
_USUAL = re.compile(r"https?://[a-z0-9.-]+/[!#-;=?-~]*")  # needs no closer look
_COUNTED = re.compile(r"(?<=\d) (?=[^\W\d])")
# Chinese and Japanese have no blanks to end a line at: it may end between any two signs, but for
# these rules (JIS X 4051, GB/T 15834). Each takes two columns.
_WIDE = "\u2e80-\u303f\u3041-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff60"
_NO_END, _NO_START = (
    "（「『【《〈“",
    "、。，．：；！？）」』】》〉”…ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ",
)
_SIGN = re.compile(f"[{_WIDE}]")
_UNIT = f"[{_NO_END}]*(?:[^ {_WIDE}{_NO_END}{_NO_START}]+|[^ ])[{_NO_START}]*"
_TOGETHER = re.compile(f" |{_UNIT}(?:(?:(?<=\u00a0)|(?=\u00a0)){_UNIT})*")
_WIDE_BREAK = re.compile(f"(?<=[{_WIDE}])\n(?=[{_WIDE}])")
LONGEST_TAIL = 20  # characters that may stand together at the end: they fit on any phone

Run = tuple[str, bool]  # some text, and whether the marker goes over it


def one_line(text: str) -> str:
    """The text on one line, without control characters and direction overrides."""
    return _spaced(text).strip()


def runs(text: str, marks: Iterable[Mark]) -> list[Run]:
    """The text cut where a mark begins or ends, each piece cleaned; joined, it is `one_line(text)`.

    Marks are offsets into `text`; what lies outside it is left out, overlapping ones are one.
    """
    spans: list[tuple[int, int]] = []  # what is marked, in order, none touching the next
    for start, end in sorted((max(0, mark.start), min(len(text), mark.end)) for mark in marks):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        elif start < end:
            spans.append((start, end))
    pieces, done = [], 0
    for start, end in spans:
        pieces += [(_spaced(text[done:start]), False), (_spaced(text[start:end]), True)]
        done = end
    pieces.append((_spaced(text[done:]), False))
    return _joined(pieces)


def plain(pieces: Iterable[Run]) -> str:
    """The text of runs without their marks."""
    return "".join(text for text, _ in pieces)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, ending at a word with an ellipsis where something is left out.

    Text without a space in reach (Chinese, Japanese, one very long word) is cut at a character,
    never inside one that is written with several code points.
    """
    if len(text) <= limit:
        return text
    cut = limit - 1
    space = text.rfind(" ", cut // 2, cut + 1)
    if space > 0:
        dangling = _DANGLING.match(text[:space][::-1])
        return text[: space - dangling.end() if dangling else space] + "…"
    while cut > 0 and _continues(text, cut):
        cut -= 1
    return text[:cut] + "…"


def glued(text: str) -> str:
    """The text with no line break between a number and its word, nor before a short last word."""
    text = _COUNTED.sub("\u00a0", text)
    head, _, last = text.rpartition(" ")
    if head and len(head.rpartition(" ")[2]) + len(last) < LONGEST_TAIL:
        return f"{head}\u00a0{last}"
    return text


def wrap(text: str, width: int = WIDTH) -> str:
    """The text in lines of at most `width` columns; a longer word (a link) keeps its own line."""
    text, lines = " ".join(_BLANK.split(text)).strip(" "), []
    if not text.isascii() and _SIGN.search(text):
        return "\n".join(_wide_lines(text, width))
    while len(text) > width:
        end = text.rfind(" ", 0, width + 1)
        if end < 0:
            end = text.find(" ")
        if end < 0:
            break
        lines.append(text[:end])
        text = text[end + 1 :]
    return "\n".join([*lines, text])


def unwrapped(text: str) -> str:
    """The text for HTML, which shows the end of a line as a blank: none between wide signs."""
    return _WIDE_BREAK.sub("", text) if "\n" in text and not text.isascii() else text


def web_url(url: str) -> str:
    """The URL if it is http or https and leads somewhere, else an empty string."""
    if _USUAL.fullmatch(url) and len(url) <= LONGEST_URL:
        return url
    if len(url) > LONGEST_URL or url != one_line(url) or set(' "<>') & set(url):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:  # an unfinished IPv6 address
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc else ""


def _wide_lines(text: str, width: int) -> list[str]:
    lines, line, columns = [], "", 0
    for piece in _TOGETHER.findall(text):
        taken = len(piece) + len(_SIGN.findall(piece))
        if line and columns + taken > width and piece != " ":
            lines.append(line.rstrip(" "))
            line, columns = "", 0
        if line or piece != " ":
            line, columns = line + piece, columns + taken
    return [*lines, line]


def _spaced(text: str) -> str:
    if text.isascii() and text.isprintable() and "  " not in text:
        return text  # as nearly all are
    return _BREAKS.sub(" ", _UNSEEN.sub("", text))


def _joined(pieces: list[Run]) -> list[Run]:
    """The pieces without white space at the ends, or twice where two of them meet."""
    result: list[Run] = []
    before = " "
    for text, marked in pieces:
        kept = text.lstrip(" ") if before.endswith(" ") else text
        if kept:
            result.append((kept, marked))
            before = kept
    while result and not result[-1][0].strip(" "):
        result.pop()
    if result:
        result[-1] = (result[-1][0].rstrip(" "), result[-1][1])
    return result


def _continues(text: str, at: int) -> bool:
    return (
        bool(unicodedata.combining(text[at]))
        or text[at] in _JOINERS
        or text[at - 1] == "\u200d"
        or 0x1F3FB <= ord(text[at]) <= 0x1F3FF  # skin tones
    )
