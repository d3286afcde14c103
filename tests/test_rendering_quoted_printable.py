"""Quoted-printable: what is decoded is what was written, wherever it is cut."""

from __future__ import annotations

from quopri import decodestring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.rendering.quoted_printable import SOFT, encode

ANY = st.text(st.characters(codec="utf-8"), max_size=300)
# What the encoding is about, more often than chance would have it.
AWKWARD = st.lists(
    st.sampled_from([".", "From ", "=", "=3D", " ", "\t", "\n", "\r", "é", "🎉", "x" * 71, "--"]),
    max_size=12,
).map("".join)
TEXTS = ANY | AWKWARD


def lines(encoded: bytes) -> list[bytes]:
    assert encoded.isascii()
    found = encoded.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in found)
    return found


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("", b""),
        ("plain, as it is", b"plain, as it is"),
        ("two\nlines\n", b"two\r\nlines\r\n"),
        ("a=b", b"a=3Db"),
        ("é", b"=C3=A9"),
        (".", b"=2E"),
        ("a.\n.b", b"a.\r\n=2Eb"),
        ("From here\nFrom there", b"=46rom here\r\n=46rom there"),
        ("Fromage", b"Fromage"),
        ("blank \nand tab\t", b"blank=20\r\nand tab=09"),
        ("\tindented", b"\tindented"),
        ("a\rb", b"a=0Db"),
        ("x" * 73, b"x" * 73),
        ("x" * 74, b"x" * 73 + SOFT + b"x"),
        ("x" * 72 + "é", b"x" * 72 + SOFT + b"=C3=A9"),
        ("x" * 73 + ".", b"x" * 73 + SOFT + b"=2E"),
        ("x" * 73 + "From me", b"x" * 73 + SOFT + b"=46rom me"),
    ],
)
def test_how_it_is_written(text: str, encoded: bytes) -> None:
    assert encode(text) == encoded


@given(first=TEXTS, second=TEXTS)
def test_pieces_meet_and_decode_to_the_text(first: str, second: str) -> None:
    whole = encode(first) + SOFT + encode(second)
    assert decodestring(whole) == (first + second).replace("\n", "\r\n").encode()
    for line in lines(whole):
        assert len(line) <= 76
        assert not line.startswith((b".", b"From "))
        assert not line.endswith((b" ", b"\t"))
