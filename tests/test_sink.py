"""The recording mail server does to a client what a test tells it to."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable

import pytest

from tests.sink import Certificate, Sink

CONTENT = "Subject: Hello\r\n\r\n.a dot\r\nTschüß\r\n".encode()
ADA, BEN = "ada@example.org", "ben@example.org"


def connect(sink: Sink) -> smtplib.SMTP:
    return smtplib.SMTP(sink.host, sink.port, timeout=10)


def send(sink: Sink, *recipients: str) -> dict[str, tuple[int, bytes]]:
    with connect(sink) as client:
        return client.sendmail("digest@example.org", recipients, CONTENT)


def test_records_envelope_and_bytes(sink: Sink) -> None:
    assert send(sink, ADA, BEN) == {}
    (mail,) = sink.mails
    assert (mail.sender, mail.recipients) == ("digest@example.org", (ADA, BEN))
    assert mail.content == CONTENT
    assert (mail.connection, mail.user, mail.tls) == (1, None, False)
    assert [command.split()[0] for command in sink.commands] == [
        "EHLO",
        "MAIL",
        "RCPT",
        "RCPT",
        "DATA",
        "QUIT",
    ]


def test_several_mails_on_one_connection(sink: Sink) -> None:
    with connect(sink) as client:
        for recipient in (ADA, BEN):
            client.sendmail("digest@example.org", [recipient], CONTENT)
    assert [(mail.recipients, mail.connection) for mail in sink.mails] == [((ADA,), 1), ((BEN,), 1)]
    send(sink, ADA)
    assert sink.mails[-1].connection == sink.connections == 2


@pytest.mark.parametrize("code", [550, 451])
def test_one_recipient_refused(sink: Sink, code: int) -> None:
    sink.on("RCPT", f"{code} 5.1.1 Not here", recipient=BEN)
    assert send(sink, ADA, BEN) == {BEN: (code, b"5.1.1 Not here")}
    assert sink.mails[0].recipients == (ADA,)


@pytest.mark.parametrize(
    ("tell", "error"),
    [
        pytest.param(lambda s: s.on("DATA", "554 No"), smtplib.SMTPDataError, id="DATA"),
        pytest.param(lambda s: s.on(".", "554 Spam"), smtplib.SMTPDataError, id="content"),
        pytest.param(lambda s: s.on("MAIL", "451 Later"), smtplib.SMTPSenderRefused, id="MAIL"),
        pytest.param(
            lambda s: s.on("CONNECT", "421 Busy", close=True),
            smtplib.SMTPConnectError,
            id="421 greeting",
        ),
        pytest.param(
            lambda s: s.on("RCPT", "421 Shutting down", close=True),
            smtplib.SMTPRecipientsRefused,
            id="421 RCPT",
        ),
        pytest.param(
            lambda s: s.on("CONNECT", close=True), smtplib.SMTPServerDisconnected, id="no greeting"
        ),
        pytest.param(
            lambda s: s.on("DATA", close=True), smtplib.SMTPServerDisconnected, id="drop at DATA"
        ),
    ],
)
def test_refusals(sink: Sink, tell: Callable[[Sink], None], error: type[Exception]) -> None:
    tell(sink)
    with pytest.raises(error):
        send(sink, ADA)
    assert sink.mails == []


def test_drop_after_the_final_dot_leaves_an_arrived_mail_without_an_answer(sink: Sink) -> None:
    sink.on(".", close=True, times=1)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(sink, ADA)
    assert sink.mails == []
    assert [mail.recipients for mail in sink.arrived] == [(ADA,)]
    assert send(sink, ADA) == {}
    assert len(sink.mails) == 1


def test_accepted_then_hung_up(sink: Sink) -> None:
    sink.on(".", "250 2.0.0 Kept", close=True)
    with connect(sink) as client:
        assert client.sendmail("digest@example.org", [ADA], CONTENT) == {}
        assert len(sink.mails) == 1
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.sendmail("digest@example.org", [BEN], CONTENT)


def test_last_told_wins_and_runs_out(sink: Sink) -> None:
    sink.on("RCPT", "550 Never")
    sink.on("RCPT", "451 Once", times=1)
    for code in (451, 550):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            send(sink, ADA)
        assert refused.value.recipients[ADA][0] == code


@pytest.mark.parametrize("step", ["CONNECT", "DATA", "."])
def test_a_delay_outlasts_an_impatient_client(sink: Sink, step: str) -> None:
    sink.on(step, delay=3600)  # type: ignore[arg-type]
    with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):  # noqa: SIM117
        with smtplib.SMTP(sink.host, sink.port, timeout=0.2) as client:
            client.sendmail("digest@example.org", [ADA], CONTENT)
    assert len(sink.arrived) == (step == ".")


def test_a_delay_ends_with_the_usual_answer(sink: Sink) -> None:
    sink.on("MAIL", delay=0.05)
    assert send(sink, ADA) == {}


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_login(mechanism: str) -> None:
    with Sink(login=("postbote", "s3cret")) as sink, connect(sink) as client:
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            client.sendmail("digest@example.org", [ADA], CONTENT)
        client.user, client.password = "postbote", "wrong"
        answer = getattr(client, f"auth_{mechanism.lower()}")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.auth(mechanism, answer)
        client.password = "s3cret"
        client.auth(mechanism, answer)
        client.sendmail("digest@example.org", [ADA], CONTENT)
        assert sink.mails[0].user == "postbote"


def test_starttls_is_required(certificate: Certificate) -> None:
    trusting = ssl.create_default_context(cafile=certificate.path)
    with (
        Sink(tls="starttls", certificate=certificate, login=("postbote", "s3cret")) as sink,
        connect(sink) as client,
    ):
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            client.sendmail("digest@example.org", [ADA], CONTENT)
        client.starttls(context=trusting)
        client.login("postbote", "s3cret")
        client.sendmail("digest@example.org", [ADA], CONTENT)
        assert (sink.mails[0].tls, sink.mails[0].user) == (True, "postbote")


def test_implicit_tls(certificate: Certificate) -> None:
    trusting = ssl.create_default_context(cafile=certificate.path)
    with (
        Sink(tls="implicit", certificate=certificate) as sink,
        smtplib.SMTP_SSL(sink.host, sink.port, timeout=10, context=trusting) as client,
    ):
        client.sendmail("digest@example.org", [ADA], CONTENT)
        assert sink.mails[0].tls


def test_an_untrusted_certificate_is_noticed(certificate: Certificate) -> None:
    with Sink(tls="starttls", certificate=certificate) as sink:
        client = connect(sink)
        with pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(context=ssl.create_default_context())
        client.close()
    assert sink.arrived == []
