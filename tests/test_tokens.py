"""A token opens one kind of page, for one person, and only as it was made."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.errors import TokenError, TokenExpired
from digest.tokens import (
    CONTENT,
    LENGTH,
    LIFETIMES,
    Claim,
    Purpose,
    digest_of,
    digest_subject,
    sign,
    verify,
)

NOW = datetime(2026, 5, 28, 6, tzinfo=UTC)
NEW, OLD, FOREIGN = b"n" * 32, b"o" * 32, b"f" * 32
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

subjects = st.integers(0, 2**63 - 1)
generations = st.integers(0, 2**16 - 1)
purposes = st.sampled_from(Purpose)


def made(purpose: Purpose = Purpose.UNSUBSCRIBE, subject: int = 7) -> str:
    return sign(purpose, subject, secrets=[NEW], now=NOW)


@given(purpose=purposes, subject=subjects, generation=generations)
def test_what_is_signed_is_read(purpose: Purpose, subject: int, generation: int) -> None:
    token = sign(purpose, subject, secrets=[NEW], now=NOW, generation=generation)
    assert len(token) == LENGTH
    assert set(token) <= set(ALPHABET)
    claim = verify(token, purpose, secrets=[NEW], now=NOW)
    assert claim == Claim(subject=subject, generation=generation)


@given(purpose=purposes, subject=subjects, place=st.integers(0, LENGTH - 1), data=st.data())
def test_every_changed_character_is_seen(
    purpose: Purpose, subject: int, place: int, data: st.DataObject
) -> None:
    token = made(purpose, subject)
    other = data.draw(st.sampled_from(ALPHABET).filter(lambda letter: letter != token[place]))
    with pytest.raises(TokenError):
        verify(token[:place] + other + token[place + 1 :], purpose, secrets=[NEW], now=NOW)


def test_no_two_spellings_of_one_token() -> None:
    token = made()
    others = {token[:-1] + letter for letter in ALPHABET} - {token}
    assert urlsafe_b64decode(token) not in {urlsafe_b64decode(other) for other in others}


@given(st.text(max_size=60))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(TokenError):
        verify(text, Purpose.UNSUBSCRIBE, secrets=[NEW], now=NOW)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda token: token + "=", id="padding"),
        pytest.param(lambda token: token + "\n", id="newline"),
        pytest.param(lambda token: " " + token, id="space"),
        pytest.param(lambda token: token[:-1], id="cut"),
        pytest.param(lambda token: token + "A", id="longer"),
        pytest.param(lambda token: token.swapcase(), id="case"),
        pytest.param(lambda token: token[:-1] + "é", id="not-ascii"),
        pytest.param(lambda token: "", id="empty"),
    ],
)
def test_another_shape_is_refused(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(TokenError):
        verify(spoil(made()), Purpose.UNSUBSCRIBE, secrets=[NEW], now=NOW)


@given(signed=purposes, read=purposes, subject=subjects)
def test_a_purpose_is_worth_nothing_for_another(
    signed: Purpose, read: Purpose, subject: int
) -> None:
    token = made(signed, subject)
    if signed is read:
        assert verify(token, read, secrets=[NEW], now=NOW).subject == subject
    else:
        with pytest.raises(TokenError):
            verify(token, read, secrets=[NEW], now=NOW)


def test_the_newest_key_signs_and_all_verify() -> None:
    old = sign(Purpose.UNSUBSCRIBE, 7, secrets=[OLD], now=NOW)
    new = sign(Purpose.UNSUBSCRIBE, 7, secrets=[NEW, OLD], now=NOW)
    assert new == made()
    for token in (old, new):
        assert verify(token, Purpose.UNSUBSCRIBE, secrets=[NEW, OLD], now=NOW).subject == 7
    with pytest.raises(TokenError):
        verify(old, Purpose.UNSUBSCRIBE, secrets=[NEW], now=NOW)
    with pytest.raises(TokenError):
        verify(new, Purpose.UNSUBSCRIBE, secrets=[FOREIGN], now=NOW)


def test_the_way_out_never_ends() -> None:
    later = NOW + timedelta(days=365 * 70)
    assert verify(made(), Purpose.UNSUBSCRIBE, secrets=[NEW], now=later).subject == 7


YEAR, HOUR = timedelta(days=365), timedelta(hours=1)


@pytest.mark.parametrize(
    ("purpose", "lifetime"),
    [
        *((purpose, YEAR) for purpose in (Purpose.PREFERENCES, Purpose.FEEDBACK, Purpose.VIEW)),
        (Purpose.CONFIRM, timedelta(days=7)),
        *((purpose, HOUR) for purpose in (Purpose.UNDO, Purpose.CHANGE)),
        *((purpose, HOUR) for purpose in (Purpose.EXPORT, Purpose.ERASE)),
    ],
)
def test_other_links_end(purpose: Purpose, lifetime: timedelta) -> None:
    assert LIFETIMES[purpose] == lifetime
    end = NOW + lifetime
    token = made(purpose)
    assert verify(token, purpose, secrets=[NEW], now=end - timedelta(seconds=1)).subject == 7
    with pytest.raises(TokenExpired):
        verify(token, purpose, secrets=[NEW], now=end)


def test_a_feed_is_there_until_it_is_revoked() -> None:
    later = NOW + timedelta(days=365 * 70)
    token = made(Purpose.SAVED)
    assert verify(token, Purpose.SAVED, secrets=[NEW], now=later).subject == 7


def test_every_purpose_has_a_lifetime() -> None:
    assert set(LIFETIMES) == set(Purpose)


def test_the_same_input_gives_the_same_token() -> None:
    assert made(Purpose.PREFERENCES) == made(Purpose.PREFERENCES)


@pytest.mark.parametrize("secret", [b"k" * 32, b"k" * 64, b"long" * 40, b""])
def test_the_signature_is_the_standard_librarys_hmac(secret: bytes) -> None:
    token = sign(Purpose.PREFERENCES, 77, secrets=[secret], now=NOW, generation=3)
    expires = int((NOW + timedelta(days=365)).timestamp())
    content = CONTENT.pack(77, 3, expires)
    mac = hmac.digest(secret, b"paper-digest token preferences\0" + content, "sha256")
    assert urlsafe_b64decode(token)[:16] == mac[:16]


def test_the_tokens_of_earlier_versions_stay_what_they_are() -> None:
    token = "zxhkaX5SE3QMdsNyX9f4o9t-ZZplYBG_Z0drkkgA"
    assert sign(Purpose.UNSUBSCRIBE, 77, secrets=[b"k" * 32], now=NOW, generation=3) == token


@given(st.integers(1, 2**47 - 1), st.dates(date(2020, 1, 1), date(2199, 6, 1)))
def test_a_digests_subject_is_whose_it_is_and_its_slot(subscriber_id: int, slot: date) -> None:
    subject = digest_subject(subscriber_id, slot)
    assert digest_of(subject) == (subscriber_id, slot)
    token = sign(Purpose.FEEDBACK, subject, secrets=[NEW], now=NOW)
    assert verify(token, Purpose.FEEDBACK, secrets=[NEW], now=NOW).subject == subject


@pytest.mark.parametrize("slot", [date(2019, 12, 31), date(2200, 1, 1)])
def test_no_digest_is_so_early_or_late(slot: date) -> None:
    with pytest.raises(ValueError, match="slot"):
        digest_subject(1, slot)


def test_a_token_does_not_tell_its_number() -> None:
    """The content is masked: two neighbours share no more than chance, byte for byte."""
    tokens = [urlsafe_b64decode(made(subject=number)) for number in range(200)]
    for place in range(30):
        assert len({token[place] for token in tokens}) > 50
