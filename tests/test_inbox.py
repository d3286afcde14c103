"""The local inbox takes mail over real SMTP and shows exactly what arrived."""

from __future__ import annotations

import logging
import mailbox
import smtplib
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest import inbox
from digest.errors import Busy, NotFound
from digest.inbox import MAX_SIZE, Inbox


def mail(subject: str = "Three papers for you", *, to: str = "kim@example.org") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "digest@example.org", to, subject
    message.set_content("In words.\n")
    message.add_alternative("<p>In <b>HTML</b>.</p>", subtype="html")
    return message


@pytest.fixture
def box(tmp_path: Path) -> Iterator[tuple[Path, smtplib.SMTP]]:
    path = tmp_path / "data" / "inbox"
    with Inbox(path) as server, smtplib.SMTP(server.host, server.port) as client:
        yield path, client


def put(path: Path, content: bytes, *, name: str = "1.M2P3Q4.host") -> str:
    mailbox.Maildir(path, create=True)
    (path / "new" / name).write_bytes(content)
    return name


def test_a_mail_is_kept_and_read(box: tuple[Path, smtplib.SMTP]) -> None:
    path, client = box
    client.send_message(mail("Grüße – 三"))
    [found] = inbox.messages(path)
    assert (found.recipient, found.subject) == ("kim@example.org", "Grüße – 三")
    read = inbox.read(path, found.key)
    assert read.summary == found
    assert read.text.strip() == "In words."
    assert read.html.strip() == "<p>In <b>HTML</b>.</p>"
    assert ("From", "digest@example.org") in read.headers


def test_the_bytes_are_those_that_arrived(box: tuple[Path, smtplib.SMTP]) -> None:
    path, client = box
    content = b"Subject: x\r\n\r\n.dot\r\n..dots\r\nFrom here \xc3\xa9\r\n\r\n  end\r\n"
    client.sendmail("bounce@example.org", ["kim@example.org"], content)
    [found] = inbox.messages(path)
    trace = b"Return-Path: <bounce@example.org>\r\nDelivered-To: kim@example.org\r\n"
    assert inbox.read(path, found.key).source == trace + content


def test_each_recipient_gets_a_copy_and_the_newest_is_first(
    box: tuple[Path, smtplib.SMTP],
) -> None:
    path, client = box
    client.sendmail("", ["a@example.org", "b@example.org"], b"Subject: one\r\n\r\n")
    for number in range(12):
        client.sendmail("", ["c@example.org"], f"Subject: {number}\r\n\r\n".encode())
    found = inbox.messages(path)
    assert [one.subject for one in found[:12]] == [str(number) for number in range(11, -1, -1)]
    assert {one.recipient for one in found[12:]} == {"a@example.org", "b@example.org"}
    assert inbox.messages(path, start=3, limit=2) == found[3:5]
    assert inbox.keys(path) == [one.key for one in found]


def test_addresses_beyond_ascii_arrive(box: tuple[Path, smtplib.SMTP]) -> None:
    path, client = box
    client.send_message(
        mail(to="用户@example.org"), mail_options=["SMTPUTF8"], to_addrs=["用户@example.org"]
    )
    [found] = inbox.messages(path)
    assert found.recipient == "用户@example.org"
    assert ("To", "用户@example.org") in inbox.read(path, found.key).headers


def test_a_mail_beyond_the_limit_is_refused(box: tuple[Path, smtplib.SMTP]) -> None:
    path, client = box
    line = b"x" * 70 + b"\r\n"
    with pytest.raises(smtplib.SMTPSenderRefused) as caught:
        client.sendmail("", ["a@example.org"], line * (MAX_SIZE // len(line) + 1))
    assert caught.value.smtp_code == 552
    assert inbox.messages(path) == []


def test_a_control_character_in_the_envelope_is_refused(box: tuple[Path, smtplib.SMTP]) -> None:
    path, client = box
    client.ehlo()
    client.docmd("MAIL", "FROM:<a@example.org>")
    client.docmd("RCPT", "TO:<b\x01@example.org>")
    code, _ = client.data(b"Subject: x\r\n\r\n")
    assert code == 553
    assert inbox.keys(path) == []


def test_the_server_is_gone_after_the_block(tmp_path: Path) -> None:
    with Inbox(tmp_path / "inbox") as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_it_stops_while_somebody_is_connected(tmp_path: Path) -> None:
    with Inbox(tmp_path / "inbox") as server:
        client = smtplib.SMTP(server.host, server.port)
        client.docmd("MAIL", "FROM:<a@example.org>")
    with client, pytest.raises(smtplib.SMTPServerDisconnected):
        client.docmd("NOOP")


def test_it_takes_the_port_it_is_given(tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with Inbox(tmp_path / "inbox", port=port) as server, smtplib.SMTP("127.0.0.1", port) as client:
        assert server.port == port
        assert client.noop()[0] == 250


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with Inbox(tmp_path / "one") as one, pytest.raises(Busy, match=str(one.port)):
        Inbox(tmp_path / "two", port=one.port).__enter__()


def test_two_inboxes_have_two_ports(tmp_path: Path) -> None:
    with Inbox(tmp_path / "one") as one, Inbox(tmp_path / "two") as two:
        assert one.port != two.port


def test_no_address_is_logged(
    box: tuple[Path, smtplib.SMTP], caplog: pytest.LogCaptureFixture
) -> None:
    _, client = box
    with caplog.at_level(logging.INFO):
        client.send_message(mail())
    assert "example.org" not in caplog.text


def test_no_inbox_is_an_empty_one(tmp_path: Path) -> None:
    assert inbox.keys(tmp_path / "none") == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../secret",
        "../new/1.M2P3Q4.host",
        "/etc/passwd",
        "1.M2P3Q4.host:2,S",
        "x\0y",
    ],
)
def test_a_hostile_name_opens_nothing(tmp_path: Path, key: str) -> None:
    path = tmp_path / "inbox"
    put(path, b"Subject: x\r\n\r\n")
    (path / "secret").write_bytes(b"Subject: secret\r\n\r\n")
    with pytest.raises(NotFound):
        inbox.read(path, key)


@pytest.mark.parametrize(
    ("content", "subject", "text"),
    [
        pytest.param(b"", "", "", id="empty"),
        pytest.param(b"\r\n\r\nhello", "", "\r\nhello", id="no-headers"),
        pytest.param(b"Subject: =?x-none?q?a?=\r\n\r\nb", "=?x-none?q?a?=", "b", id="charset"),
        pytest.param(b"Subject: =?utf-8?b?A?=\r\n\r\nb", "=?utf-8?b?A?=", "b", id="base64"),
        pytest.param("Subject: été\r\n\r\nb".encode(), "été", "b", id="raw-utf-8"),
        pytest.param(b"Subject: \xff\r\n\r\nb", "\ufffd", "b", id="raw-bytes"),
        pytest.param(b"Subject: a\r\n b\r\n\tc\r\n\r\nd", "a b\tc", "d", id="folded"),
        pytest.param(b"Subject: a\r\nSubject: b\r\n\r\n", "a", "", id="twice"),
        pytest.param(
            b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xc3\xa9",
            "",
            "é",
            id="body-charset",
        ),
        pytest.param(
            b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nx",
            "",
            "",
            id="file",
        ),
        pytest.param(b"Content-Type: multipart/mixed\r\n\r\nx", "", "", id="no-boundary"),
    ],
)
def test_a_broken_mail_is_shown_as_well_as_it_can_be(
    tmp_path: Path, content: bytes, subject: str, text: str
) -> None:
    path = tmp_path / "inbox"
    key = put(path, content)
    read = inbox.read(path, key)
    assert (read.summary.subject, read.text) == (subject, text)
    assert inbox.messages(path) == [read.summary]


@given(content=st.binary(max_size=300), headed=st.booleans())
def test_no_bytes_break_the_list(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, headed: bool
) -> None:
    path = tmp_path_factory.mktemp("inbox") / "box"
    key = put(path, (b"Subject: " if headed else b"Content-Type: text/") + content)
    assert inbox.read(path, key).summary == inbox.messages(path)[0]
