"""Bodies as they came over the wire, made into values or into an error that says what came."""

from __future__ import annotations

import json
import re
from typing import Any

from lxml import etree

from digest.errors import BrokenAnswer

# What neither UTF-8 nor XML nor PostgreSQL's text can carry.
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TAG = re.compile(r"<[^>]*>")


def storable(text: str) -> str:
    """`text` without lone surrogates and control characters."""
    return _UNSTORABLE.sub("", text)


def excerpt(body: bytes, length: int = 160) -> str:
    """The first words of a body on one line, without markup, for an error's reason."""
    text = " ".join(_TAG.sub(" ", storable(body[:8192].decode("utf-8", "replace"))).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def load_json(body: bytes) -> Any:
    """The value in `body`. Raises BrokenAnswer."""
    _refuse_page(body, "JSON")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BrokenAnswer(f"the JSON is cut off or malformed ({error})") from error


def load_xml(body: bytes) -> etree._Element:
    """The root of the document in `body`, nothing expanded or fetched. Raises BrokenAnswer.

    A document that ends in the middle of an element is an error, not a short list.
    """
    _refuse_page(body, "XML")
    # A parser keeps what it read until it is collected, so each document gets its own.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, remove_comments=True
    )
    try:
        return etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise BrokenAnswer(f"the XML is cut off or malformed ({error.msg})") from error


def _refuse_page(body: bytes, wanted: str) -> None:
    start = body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise BrokenAnswer(f"an empty answer came instead of {wanted}")
    if start.startswith((b"<!doctype html", b"<html")):
        raise BrokenAnswer(f'a web page came instead of {wanted} ("{excerpt(body, 60)}")')
