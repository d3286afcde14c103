"""One address has one key, however it is spelled; what is no address is refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.errors import AddressError
from digest.suppression import (
    address_hash,
    address_hashes,
    address_key,
    masked,
    provider,
    same_mailbox,
)

SECRET, OLDER = b"n" * 32, b"o" * 32


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        pytest.param("a@example.org", "a@example.org", id="plain"),
        pytest.param("A@Example.org", "a@example.org", id="case"),
        pytest.param("KIM.Lee+Papers@EXAMPLE.ORG", "kim.lee+papers@example.org", id="tag-stays"),
        pytest.param("a@Bücher.example", "a@xn--bcher-kva.example", id="idn"),
        pytest.param("a@BÜCHER.example", "a@xn--bcher-kva.example", id="idn-case"),
        pytest.param("a@xn--BCHER-kva.example", "a@xn--bcher-kva.example", id="a-label"),
        pytest.param("a@bu\u0308cher.example", "a@xn--bcher-kva.example", id="idn-decomposed"),
        pytest.param("a@例え.example", "a@xn--r8jz45g.example", id="idn-japanese"),
        pytest.param("a@straße.example", "a@xn--strae-oqa.example", id="idn-sharp-s"),
        pytest.param("a@ｅxample.org", "a@example.org", id="full-width-domain"),
        pytest.param("a@example。org", "a@example.org", id="ideographic-stop"),
        pytest.param("JOSÉ@example.org", "josé@example.org", id="unicode-local"),
        pytest.param("jose\u0301@example.org", "josé@example.org", id="unicode-decomposed"),
        pytest.param("STRASSE@example.org", "strasse@example.org", id="latin-ss"),
        pytest.param("straße@example.org", "strasse@example.org", id="sharp-s-folds"),
        pytest.param("ΣΊΣΥΦΟΣ@example.org", "σίσυφοσ@example.org", id="greek-final-sigma"),
        pytest.param("用户@example.org", "用户@example.org", id="chinese"),
        pytest.param(
            "!#$%&'*+/=?^_`{|}~-@example.org", "!#$%&'*+/=?^_`{|}~-@example.org", id="odd"
        ),
        pytest.param("a" * 64 + "@example.org", "a" * 64 + "@example.org", id="longest-local"),
    ],
)
def test_a_key_is_the_same_for_every_spelling(typed: str, key: str) -> None:
    assert address_key(typed) == key
    assert address_key(key) == key


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param("", id="empty"),
        pytest.param("@", id="at-alone"),
        pytest.param("example.org", id="no-at"),
        pytest.param("@example.org", id="no-local"),
        pytest.param("a@", id="no-domain"),
        pytest.param("a@b@example.org", id="two-ats"),
        pytest.param("a@example", id="no-dot"),
        pytest.param("a@localhost", id="localhost"),
        pytest.param("a@example.org.", id="dot-at-the-end"),
        pytest.param("a@.example.org", id="dot-first"),
        pytest.param("a@example..org", id="dots-in-domain"),
        pytest.param("a..b@example.org", id="dots-in-local"),
        pytest.param(".a@example.org", id="local-starts-with-dot"),
        pytest.param("a.@example.org", id="local-ends-with-dot"),
        pytest.param("a b@example.org", id="space"),
        pytest.param(" a@example.org", id="space-before"),
        pytest.param("a@example.org ", id="space-after"),
        pytest.param('"a b"@example.org', id="quoted"),
        pytest.param("a(comment)@example.org", id="comment"),
        pytest.param("Kim <a@example.org>", id="display-name"),
        pytest.param("a@[192.0.2.1]", id="address-literal"),
        pytest.param("a@192.0.2.1", id="bare-ip"),
        pytest.param("a@-example.org", id="hyphen-first"),
        pytest.param("a@ex_ample.org", id="underscore"),
        pytest.param("a@xn--a.org", id="broken-a-label"),
        pytest.param("a@" + "b" * 64 + ".org", id="long-label"),
        pytest.param("a" * 65 + "@example.org", id="long-local"),
        pytest.param("a@" + "b." * 150 + "org", id="300-characters"),
        pytest.param("a" * 100_000 + "@example.org", id="endless"),
        pytest.param("a@example.org\r\nBcc: b@example.org", id="header-injection"),
        pytest.param("a\n@example.org", id="newline"),
        pytest.param("a\0@example.org", id="nul"),
        pytest.param("a\u202eb@example.org", id="bidi-override"),
        pytest.param("a\u200bb@example.org", id="zero-width"),
        pytest.param("\ud800@example.org", id="surrogate"),
        pytest.param("a@example.org,b@example.org", id="two-addresses"),
        pytest.param("mailto:a@example.org", id="mailto"),
    ],
)
def test_what_is_no_address_is_refused_in_a_sentence(typed: str) -> None:
    with pytest.raises(AddressError) as caught:
        address_key(typed)
    said = str(caught.value)
    assert said.endswith(".")
    assert said.isprintable()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("Kim@example.org", "kim@EXAMPLE.org", True, id="case"),
        pytest.param("jose\u0301@example.org", "JOS\u00c9@example.org", True, id="composed"),
        pytest.param("stra\u00dfe@example.org", "strasse@example.org", False, id="sharp-s"),
        pytest.param("\u017fam@example.org", "sam@example.org", False, id="long-s"),
        pytest.param("\ufb01n@example.org", "fin@example.org", False, id="ligature"),
    ],
)
def test_one_key_is_not_always_one_mailbox(one: str, other: str, same: bool) -> None:
    assert address_key(one) == address_key(other)
    assert same_mailbox(one, other) is same_mailbox(other, one) is same


LOCAL = st.text(
    st.characters(categories=("L", "M", "N"), include_characters=".+-_'", max_codepoint=0x2FFF),
    min_size=1,
    max_size=20,
)


@given(local=LOCAL)
def test_a_key_is_its_own_key(local: str) -> None:
    try:
        key = address_key(f"{local}@example.org")
    except AddressError:
        return
    assert address_key(key) == key


@given(local=LOCAL)
def test_case_never_makes_another_person(local: str) -> None:
    try:
        key = address_key(f"{local}@example.org")
        upper = address_key(f"{local.upper()}@EXAMPLE.org")
    except AddressError:
        return
    assert upper == key or local.upper().casefold() != local.casefold()


def test_hashes_are_keyed_and_separate() -> None:
    one = address_hash("a@example.org", secret=SECRET)
    assert len(one) == 64
    assert int(one, 16)
    assert one == address_hash("a@example.org", secret=SECRET)
    assert one != address_hash("b@example.org", secret=SECRET)
    assert one != address_hash("a@example.org", secret=OLDER)


def test_a_rotation_forgets_nobody() -> None:
    kept = address_hash("a@example.org", secret=OLDER)
    assert address_hashes("a@example.org", secrets=(SECRET, OLDER))[1] == kept
    assert address_hashes("a@example.org", secrets=(SECRET, OLDER))[0] == address_hash(
        "a@example.org", secret=SECRET
    )


@pytest.mark.parametrize(
    ("address", "domain"),
    [("Kim@Example.ORG", "example.org"), ("a@Bücher.example", "xn--bcher-kva.example")],
)
def test_the_provider_is_the_domain(address: str, domain: str) -> None:
    assert provider(address) == domain


@pytest.mark.parametrize(
    ("address", "shown"),
    [("kim@example.org", "k…@example.org"), ("用户@example.org", "用…@example.org")],
)
def test_a_masked_address_shows_one_letter(address: str, shown: str) -> None:
    assert masked(address) == shown
