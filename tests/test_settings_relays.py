"""Several mail servers, and limits for receiving providers: what is accepted, refused and shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from digest.errors import SettingsError
from digest.settings import LimitsSetting, RelaySetting, Settings, describe, load
from digest.settings.checks import PREFIX

SENDER = {"SENDER_ADDRESS": "digest@example.org", "BASE_URL": "https://digest.example.org"}
HOST = "mail.example.org"


def given(values: Mapping[str, str]) -> Settings:
    return load({PREFIX + name: text for name, text in {**SENDER, **values}.items()}, None)


def refused(**values: str) -> str:
    """The one line that tells what is wrong."""
    with pytest.raises(SettingsError) as caught:
        given(values)
    [line] = str(caught.value).splitlines()
    return line


def relay(host: str = HOST, port: int = 587, tls: str = "starttls", **more: Any) -> RelaySetting:
    return RelaySetting(host=host, port=port, tls=tls, **more)


def limits(**values: Any) -> LimitsSetting:
    return LimitsSetting(**values)


RELAYS = {
    "STARTTLS by itself": (f"smtp://{HOST}", [relay()]),
    "TLS at once": (f"smtps://{HOST}", [relay(port=465, tls="tls")]),
    "no TLS": (f"smtp://{HOST}?tls=none", [relay(port=25, tls="none")]),
    "a port, and a slash": (f"smtp://{HOST}:2525/", [relay(port=2525)]),
    "a host in capital letters": ("SMTP://Mail.Example.ORG", [relay()]),
    "an address of IPv6": ("smtp://[::1]:2525?tls=none", [relay("::1", 2525, "none")]),
    "a login": (f"smtp://me:pw@{HOST}", [relay(user="me", password="pw")]),
    "a login with every letter": (
        f"smtp://me%40example.org:p%2Fw%3A%3F%23%25@{HOST}",
        [relay(user="me@example.org", password="p/w:?#%")],
    ),
    "a login in the clear on this machine": (
        "smtp://me:pw@localhost?tls=none",
        [relay("localhost", 25, "none", user="me", password="pw")],
    ),
    "limits": (
        f"smtp://{HOST}?connections=20&messages=100&rate=0.5&daily=9000",
        [relay(limits=limits(connections=20, messages=100, rate=0.5, daily=9000))],
    ),
    "priorities": (
        f"smtp://one.example?priority=1\n smtps://{HOST}\t",
        [relay("one.example", priority=1), relay(port=465, tls="tls")],
    ),
    "one host at two ports": (
        f"smtp://{HOST} smtp://{HOST}:25",
        [relay(), relay(port=25)],
    ),
}


@pytest.mark.parametrize(("text", "expected"), RELAYS.values(), ids=RELAYS)
def test_mail_servers(text: str, expected: list[RelaySetting]) -> None:
    settings = given({"RELAYS": text})
    assert settings.relays == tuple(expected)
    assert not settings.local


@pytest.mark.parametrize("text", [text for text, _ in RELAYS.values()], ids=list(RELAYS))
def test_what_is_shown_is_what_was_read_but_for_the_password(text: str) -> None:
    [shown] = [row.value for row in describe(given({"RELAYS": text})) if row.name[7:] == "RELAYS"]
    again = [row.value for row in describe(given({"RELAYS": shown})) if row.name[7:] == "RELAYS"]
    assert again == [shown]
    assert ":pw" not in shown
    assert "p%2Fw" not in shown


WRONG_RELAYS = {
    "no scheme": (HOST, "write each as smtp://host or smtps://host"),
    "another scheme": (f"http://{HOST}", "write each as smtp://host or smtps://host"),
    "no host": ("smtp://", "write each as smtp://host or smtps://host"),
    "a port that is none": (f"smtp://{HOST}:x", "one of them is no URL"),
    "a port beyond all": (f"smtp://{HOST}:70000", "one of them is no URL"),
    "port 0": (f"smtp://{HOST}:0", f"{HOST}: there is no port 0"),
    "a path": (f"smtp://{HOST}/x", "nothing follows the port"),
    "a fragment": (f"smtp://{HOST}#x", "nothing follows the port"),
    "no such encryption": (f"smtp://{HOST}?tls=ssl", "tls=ssl is not starttls or none"),
    "TLS by the wrong scheme": (f"smtp://{HOST}?tls=tls", "smtps:// is TLS at once"),
    "TLS that is none": (f"smtps://{HOST}?tls=none", "smtps:// is TLS at once"),
    "a user alone": (f"smtp://me@{HOST}", "give both user and password"),
    "a password alone": (f"smtp://:pw@{HOST}", "give both user and password"),
    "a password in the clear": (f"smtp://me:pw@{HOST}?tls=none", "must not travel in the clear"),
    "a priority below all": (f"smtp://{HOST}?priority=-1", "no number from 0 to 999"),
    "a priority beyond all": (f"smtp://{HOST}?priority=1000", "no number from 0 to 999"),
    "a priority in other digits": (f"smtp://{HOST}?priority=%D9%A3", "no number from 0 to 999"),
    "no such limit": (f"smtp://{HOST}?speed=3", "'speed' is none of connections, messages"),
    "a limit of nothing": (f"smtp://{HOST}?rate=0", "rate=0 is no number above 0"),
    "a limit without a value": (f"smtp://{HOST}?rate", "rate= is no number above 0"),
    "a limit below zero": (f"smtp://{HOST}?daily=-1", "daily=-1 is no number above 0"),
    "a limit that is no whole number": (f"smtp://{HOST}?daily=1.5", "daily=1.5 is no number"),
    "an endless limit": (f"smtp://{HOST}?rate=inf", "rate=inf is no number above 0"),
    "a limit that is not a number": (f"smtp://{HOST}?rate=nan", "rate=nan is no number above 0"),
    "too many connections": (f"smtp://{HOST}?connections=513", "write 512 or less"),
    "a limit twice": (f"smtp://{HOST}?rate=1&rate=2", "rate stands twice"),
    "a server twice": (
        f"smtp://{HOST}?rate=1 smtp://{HOST}:587?rate=2",
        f"{HOST}:587 stands twice",
    ),
    "a server twice, by its letters": (f"smtp://{HOST} smtp://MAIL.example.org", "stands twice"),
}


@pytest.mark.parametrize(("text", "words"), WRONG_RELAYS.values(), ids=WRONG_RELAYS)
def test_mail_servers_that_are_refused(text: str, words: str) -> None:
    line = refused(RELAYS=text)
    assert words in line
    assert line.startswith("DIGEST_RELAYS=****** (environment): ")


# A password typed as it is: whatever part of it is taken for another part of the URL.
RAW = ["hun/ter2", "hun?ter2", "hun#ter2", "1/ter2@x", "1?ter2", "1#ter2", "hun[ter2", "hun]ter2"]


@pytest.mark.parametrize("password", [*RAW, "hun ter2", "hun\u2100ter2", "hun?a=ter2"])
def test_no_piece_of_a_password_is_told(password: str) -> None:
    with pytest.raises(SettingsError) as caught:
        given({"RELAYS": f"smtp://me:{password}@{HOST}"})
    for piece in ("hun", "ter2", "me:"):
        assert piece not in str(caught.value)


LIMITS = {
    "one": ("gmail.com:rate=20,daily=50000", [("gmail.com", limits(rate=20, daily=50000))]),
    "several, and all others": (
        "Google:connections=5\n*:rate=1.5,messages=50",
        [("google", limits(connections=5)), ("*", limits(rate=1.5, messages=50))],
    ),
}


@pytest.mark.parametrize(("text", "expected"), LIMITS.values(), ids=LIMITS)
def test_limits_of_providers(text: str, expected: list[tuple[str, LimitsSetting]]) -> None:
    settings = given({"RELAYS": f"smtp://{HOST}", "PROVIDER_LIMITS": text})
    assert settings.provider_limits == tuple(expected)
    [shown] = [row.value for row in describe(settings) if row.name == "DIGEST_PROVIDER_LIMITS"]
    again = given({"RELAYS": f"smtp://{HOST}", "PROVIDER_LIMITS": shown})
    assert again.provider_limits == settings.provider_limits


WRONG_LIMITS = {
    "no limits": ("gmail.com", "'gmail.com' is not provider:limits"),
    "no provider": (":rate=1", "':rate=1' is not provider:limits"),
    "empty limits": ("gmail.com:", "gmail.com: '' is none of connections"),
    "no such limit": ("gmail.com:speed=1", "gmail.com: 'speed' is none of connections"),
    "a limit of nothing": ("gmail.com:rate=0", "gmail.com: rate=0 is no number above 0"),
    "a limit without a value": ("gmail.com:rate", "gmail.com: rate= is no number above 0"),
    "a limit twice": ("gmail.com:rate=1,rate=2", "gmail.com: rate stands twice"),
    "a provider twice": ("gmail.com:rate=1 Gmail.com:daily=2", "Gmail.com stands twice"),
    "white space after a comma": ("gmail.com:rate=1, daily=2", "'' is none of connections"),
}


@pytest.mark.parametrize(("text", "words"), WRONG_LIMITS.values(), ids=WRONG_LIMITS)
def test_limits_that_are_refused(text: str, words: str) -> None:
    line = refused(RELAYS=f"smtp://{HOST}", PROVIDER_LIMITS=text)
    assert words in line
    assert line.startswith("DIGEST_PROVIDER_LIMITS=gmail.com" if text[0] == "g" else "DIGEST_PROV")


CONTRADICTIONS: dict[str, tuple[dict[str, str], str]] = {
    "two places for servers": ({"SMTP_HOST": HOST}, "name the mail servers in one of the two"),
    "a login for which of them": (
        {"SMTP_USER": "me", "SMTP_PASSWORD": "pw"},
        "name each mail server's user and password in its URL",
    ),
    "no sender": ({"SENDER_ADDRESS": ""}, "write the address that mail comes from"),
}


@pytest.mark.parametrize(("values", "words"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_what_contradicts_the_relays(values: dict[str, str], words: str) -> None:
    assert words in refused(RELAYS=f"smtp://{HOST}", **values)


def test_a_wrong_relay_is_told_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"DIGEST_RELAYS": "mail.example.org"}, None)
    assert str(caught.value).startswith("DIGEST_RELAYS=******")
    assert "\n" not in str(caught.value)


def test_relays_can_come_from_a_file_and_stay_secret(tmp_path: Path) -> None:
    path = tmp_path / "relays"
    path.write_text(f"smtp://me:hunter2@{HOST}\nsmtps://two.example?priority=1\n")
    settings = given({"RELAYS_FILE": str(path)})
    assert [one.password for one in settings.relays] == ["hunter2", ""]
    [row] = [row for row in describe(settings) if row.name == "DIGEST_RELAYS"]
    assert row.origin == f"file {path}"
    assert row.value == (
        f"smtp://me:******@{HOST}:587?tls=starttls&priority=0"
        " smtps://two.example:465?tls=tls&priority=1"
    )
    assert "hunter2" not in repr(settings)
