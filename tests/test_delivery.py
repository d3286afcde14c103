"""What a server does to a message, and whose fault it is: every refusal at every step."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from digest.delivery import Connection, Server, enhanced_code
from digest.errors import DeliveryError
from digest.models import Message, Receipt
from tests.letters import (
    ADA,
    BEN,
    HOST,
    LATER,
    NEVER,
    PLAIN,
    UNKNOWN,
    blame,
    message,
    send,
    server_of,
)
from tests.raw_sink import RawSink
from tests.sink import Certificate, Sink, Step


@pytest.fixture(params=[Sink, RawSink], ids=["plain", "pipelined"])
def sink(request: pytest.FixtureRequest) -> Iterator[Sink]:
    """A mail server without login and TLS: one that is asked step by step, and one in groups."""
    with request.param() as server:
        yield server


def refused(server: Server, one: Message | None = None, **more: Any) -> DeliveryError:
    [answer] = send(server, one or message(), **more)
    assert isinstance(answer, DeliveryError), answer
    return answer


def accepted(answers: Sequence[Receipt | DeliveryError]) -> bool:
    return all(isinstance(answer, Receipt) for answer in answers)


# ------------------------------------------------------------------ refusals

STEPS: dict[Step, tuple[str, str]] = {  # what a temporary and a final no mean there
    "CONNECT": (HOST, HOST),
    "EHLO": (HOST, HOST),
    "MAIL": (LATER, NEVER),
    "RCPT": (LATER, NEVER),
    "DATA": (LATER, NEVER),
    ".": (LATER, NEVER),
}
TEMPORARY, FINAL, CLOSING = "450 4.2.1 Not now", "550 5.7.1 Not ever", "421 4.3.2 Closing"
ANSWERS = {TEMPORARY: 0, FINAL: 1, CLOSING: None, "": None, "Nonsense": None}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("reply", ANSWERS, ids=["4xx", "5xx", "421", "closed", "malformed"])
def test_each_refusal_at_each_step(sink: Sink, step: Step, reply: str) -> None:
    which = ANSWERS[reply]
    sink.on(step, reply, close=reply in (CLOSING, ""), times=1)
    if step == "EHLO":
        sink.on("HELO", "502 5.5.1 No")
    error = refused(server_of(sink))
    expected = HOST if which is None else STEPS[step][which]
    assert blame(error) == (UNKNOWN if step == "." and reply in ("", "Nonsense") else expected)
    assert sink.mails == []
    if reply[:3].isdecimal() and step != "EHLO":
        assert str(error) == reply
        assert error.code == int(reply[:3])
        assert enhanced_code(error.text) == reply.split()[1]


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("reply", ["450 4.2.1 Not now", "550 5.7.1 Not ever"])
def test_the_next_message_goes_over_the_same_connection(sink: Sink, step: Step, reply: str) -> None:
    sink.on(step, reply, times=1)
    no, yes = send(server_of(sink), message(ADA), message(BEN))
    assert isinstance(no, DeliveryError)
    assert yes == Receipt(code=250, text="2.0.0 Kept", relay=f"127.0.0.1:{sink.port}")
    assert [mail.recipients for mail in sink.mails] == [((BEN,))]
    assert sink.connections == 1
    # The answer to a content ends an envelope (RFC 5321 section 4.1.1.4); any other no does not.
    assert sink.commands.count("RSET") == (step != ".")


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
def test_the_next_message_gets_a_new_connection_after_a_loss(sink: Sink, step: Step) -> None:
    sink.on(step, close=True, times=1)
    no, yes = send(server_of(sink), message(ADA), message(BEN))
    assert isinstance(no, DeliveryError)
    assert isinstance(yes, Receipt)
    assert sink.connections == 2


def test_552_at_rcpt_is_read_as_452(sink: Sink) -> None:
    sink.on("RCPT", "552 5.5.3 Too many recipients", times=1)
    error = refused(server_of(sink))
    assert (blame(error), error.code) == (LATER, 552)
    sink.on(".", "552 5.2.2 Mailbox full", times=1)
    assert blame(refused(server_of(sink))) == NEVER


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("MAIL", "252 2.1.0 Perhaps"),
        ("RCPT", "251 2.1.5 User not local; will forward"),
        ("RCPT", "252 2.1.5 Cannot VRFY user"),
        (".", "251 2.0.0 Kept, in my way"),
    ],
)
def test_any_yes_is_a_yes(sink: Sink, step: Step, reply: str) -> None:
    # The sink notes no envelope at a step that the test answers, so the later ones are told too.
    envelope: tuple[Step, ...] = ("MAIL", "RCPT")
    if step != ".":
        for later in envelope:
            sink.on(later, "250 2.1.0 OK")
        sink.on("DATA", "451 4.3.0 Enough seen")
    sink.on(step, reply, times=1)
    [answer] = send(server_of(sink), message())
    if step == ".":
        assert isinstance(answer, Receipt)
        assert (answer.code, sink.arrived[0].recipients) == (251, (ADA,))
    else:
        assert str(answer) == "451 4.3.0 Enough seen"


@pytest.mark.parametrize("reply", ["354 Go on", "999 What", "150 Wait"])
def test_an_answer_without_meaning_after_the_content_is_unknown(sink: Sink, reply: str) -> None:
    sink.on(".", reply)
    assert blame(refused(server_of(sink))) == UNKNOWN


# ------------------------------------------------------------------ losses


def test_a_late_answer_to_the_content_is_unknown(sink: Sink) -> None:
    sink.on(".", delay=60)
    error = refused(server_of(sink, final_timeout=0.2))
    assert blame(error) == UNKNOWN
    assert "after the message" in error.text
    assert len(sink.arrived) == 1


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_late_answer_before_the_content_is_the_servers_fault(sink: Sink, step: Step) -> None:
    sink.on(step, delay=60)
    error = refused(server_of(sink, timeout=0.2))
    assert blame(error) == HOST
    assert error.text != "no words"
    assert sink.arrived == []


def test_patience_after_the_content_is_its_own(sink: Sink) -> None:
    sink.on(".", delay=1.5)
    assert accepted(send(server_of(sink, timeout=1.0, final_timeout=30.0), message()))


@pytest.mark.parametrize(
    ("reply", "close"),
    [
        pytest.param("", True, id="closed"),
        pytest.param("421 4.7.0 Too many messages", True, id="421 and closed"),
        pytest.param("421 4.7.0 Too many messages", False, id="421"),
    ],
)
def test_a_server_that_had_enough_between_messages_is_asked_anew(
    sink: Sink, reply: str, close: bool
) -> None:
    server = server_of(sink)

    async def two() -> None:
        async with Connection(server) as connection:
            await connection.send(message(ADA))
            sink.on("MAIL", reply, close=close, times=1)
            await connection.send(message(BEN))

    asyncio.run(two())
    assert [(mail.recipients, mail.connection) for mail in sink.mails] == [((ADA,), 1), ((BEN,), 2)]


def test_a_server_that_answers_421_again_is_not_asked_a_third_time(sink: Sink) -> None:
    async def two() -> str:
        async with Connection(server_of(sink)) as connection:
            await connection.send(message(ADA))
            sink.on("MAIL", "421 4.7.0 Go away", close=True)
            with pytest.raises(DeliveryError) as caught:
                await connection.send(message(BEN))
            return blame(caught.value)

    assert asyncio.run(two()) == HOST
    assert sink.connections == 2


def test_an_accepted_message_stays_so_when_the_server_hangs_up(sink: Sink) -> None:
    sink.on(".", "250 2.0.0 Kept", close=True)
    assert accepted(send(server_of(sink), message(ADA), message(BEN)))
    assert [mail.connection for mail in sink.mails] == [1, 2]


def test_a_connection_carries_so_many_messages(sink: Sink) -> None:
    assert accepted(send(server_of(sink, messages=2), *(message() for _ in range(5))))
    assert [mail.connection for mail in sink.mails] == [1, 1, 2, 2, 3]
    assert [command for command in sink.commands if command == "QUIT"] == ["QUIT"] * 3


def test_nobody_listens() -> None:
    error = refused(Server(host="127.0.0.1", port=1, tls="none", timeout=2))
    assert blame(error) == HOST
    assert str(error).startswith("127.0.0.1:1 cannot be used: ")


# ------------------------------------------------------------------ odd servers


@asynccontextmanager
async def scripted(answers: Callable[[bytes], bytes | None]) -> AsyncIterator[Server]:
    """A server that answers each line, and the final dot, with these bytes; None hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 odd ESMTP\r\n")
        content = False
        try:
            while line := await reader.readline():
                if content and line != b".\r\n":
                    continue
                answer = answers(line)
                content = not content and line == b"DATA\r\n"
                if answer is None:
                    break
                writer.write(answer)
                if answer.endswith(b"!"):  # hangs up right after these words
                    break
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Server(host="127.0.0.1", port=port, tls="none", timeout=5, final_timeout=5)


def sent_to(answers: dict[bytes, bytes], one: Message) -> Receipt | DeliveryError:
    usual = {b"DATA": b"354 Go on\r\n", b"EHLO": b"250-odd\r\n250 SIZE 1000000\r\n"}

    def answer(line: bytes) -> bytes:
        return {**usual, **answers}.get(line[:4].strip(), b"250 2.0.0 Fine\r\n")

    async def run() -> Receipt | DeliveryError:
        async with scripted(answer) as server, Connection(server) as connection:
            try:
                return await connection.send(one)
            except DeliveryError as error:
                return error

    return asyncio.run(run())


def test_hanging_up_with_the_354_has_sent_nothing() -> None:
    answer = sent_to({b"DATA": b"354 Go on\r\n!"}, message())
    assert isinstance(answer, DeliveryError)
    # Which of the two depends on whether the hanging up is seen before the content is written.
    assert blame(answer) in (HOST, UNKNOWN)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (b"2.0.0 Empf\xe4nger gut", "2.0.0 Empf nger gut"),
        (b"2.0.0 a\x00b\x1b[31mc", "2.0.0 a b [31mc"),
        ("2.0.0 Für <ada@example.org>".encode(), "2.0.0 Für <recipient>"),
        (b"2.0.0 ADA@Example.ORG is glad", "2.0.0 <recipient> is glad"),
        (b"x" * 2000, "x" * 500),
        (b"x" * 490 + b" ada@example.org", "x" * 490 + " <recipien"),
        (b"", "no words"),
    ],
)
def test_words_are_fit_for_every_database_and_name_nobody(words: bytes, text: str) -> None:
    for code, kind in ((b"250", Receipt), (b"450", DeliveryError), (b"550", DeliveryError)):
        answer = sent_to({b".": code + b" " + words + b"\r\n"}, message())
        assert isinstance(answer, kind)
        assert answer.text == text
        assert "ada@example.org" not in str(answer).lower()


@pytest.mark.parametrize("garbage", [b"hello there\r\n", b"x" * 40_000 + b"\r\n", b"\xff\xfe\r\n"])
@pytest.mark.parametrize(("step", "fault"), [(b"MAIL", HOST), (b"RCPT", HOST), (b".", UNKNOWN)])
def test_garbage_is_the_servers_fault(garbage: bytes, step: bytes, fault: str) -> None:
    answer = sent_to({step: garbage}, message())
    assert isinstance(answer, DeliveryError)
    assert blame(answer) == fault


# ------------------------------------------------------------------ TLS and login

LOGIN = ("postbote", "s3cret")


def test_starttls_that_is_not_offered_is_refused_before_the_password(sink: Sink) -> None:
    error = refused(server_of(sink, tls="starttls", user="postbote", password="s3cret"))
    assert blame(error) == HOST
    assert "STARTTLS" in error.text
    assert [command.split()[0] for command in sink.commands] == ["EHLO"]


@pytest.mark.parametrize(
    "reply", ["454 4.7.0 Not available", "501 5.5.4 Syntax", CLOSING, "", "Nonsense"]
)
def test_starttls_refused(certificate: Certificate, reply: str) -> None:
    with Sink(tls="starttls", certificate=certificate) as sink:
        sink.on("STARTTLS", reply, close=not reply)
        assert blame(refused(server_of(sink, tls="starttls"))) == HOST
        assert not any(command.startswith("MAIL") for command in sink.commands)


@pytest.mark.parametrize(("kind", "tls"), [("starttls", "starttls"), ("implicit", "tls")])
def test_a_certificate_that_nobody_signed(certificate: Certificate, kind: Any, tls: str) -> None:
    with Sink(tls=kind, certificate=certificate) as sink:
        error = refused(server_of(sink, tls=tls))
        assert blame(error) == HOST
        assert str(error) == (
            f"127.0.0.1:{sink.port} cannot be used:"
            " its certificate is not to be trusted: self-signed certificate"
        )
        assert sink.arrived == []


@pytest.mark.parametrize(("kind", "tls"), [("starttls", "starttls"), ("implicit", "tls")])
@pytest.mark.parametrize("login", [None, LOGIN], ids=["no login", "login"])
def test_tls(certificate: Certificate, kind: Any, tls: str, login: tuple[str, str] | None) -> None:
    trusting = ssl.create_default_context(cafile=certificate.path)
    user, password = login or ("", "")
    with Sink(tls=kind, certificate=certificate, login=login) as sink:
        server = server_of(sink, tls=tls, user=user, password=password)
        # An address that needs SMTPUTF8 shows that the server was asked again within TLS.
        assert accepted(send(server, message("jürgen@example.org"), tls_context=trusting))
        assert (sink.mails[0].tls, sink.mails[0].user) == (True, user or None)


def test_a_wrong_password_is_nobodys_fault_but_ours() -> None:
    with Sink(login=LOGIN) as sink:
        error = refused(server_of(sink, user="postbote", password="wrong"))
        assert (blame(error), error.code) == (HOST, 535)
        assert sink.arrived == []


@pytest.mark.parametrize("reply", ["454 4.7.0 Try later", "535 5.7.8 No", CLOSING, "", "Nonsense"])
def test_a_login_refused(reply: str) -> None:
    with Sink(login=LOGIN) as sink:
        sink.on("AUTH", reply, close=reply in (CLOSING, ""))
        assert blame(refused(server_of(sink, user="postbote", password="s3cret"))) == HOST
        assert not any(command.startswith("MAIL") for command in sink.commands)


def test_a_server_that_wants_a_login_or_has_none(sink: Sink) -> None:
    error = refused(server_of(sink, user="postbote", password="s3cret"))
    assert blame(error) == HOST
    assert "auth" in error.text.lower()
    with Sink(login=LOGIN) as strict:
        error = refused(server_of(strict))
        assert (blame(error), str(error)) == (HOST, "530 5.7.0 Authentication required")


# ------------------------------------------------------------------ bytes and extensions


@pytest.mark.parametrize(
    ("content", "arrives"),
    [
        (PLAIN, PLAIN),
        (
            b"A: b\r\n\r\n.one\r\n..two\r\n.\r\nthree\r\n",
            b"A: b\r\n\r\n.one\r\n..two\r\n.\r\nthree\r\n",
        ),
        (b".A: b\r\n\r\n.\r\n.\r\n", b".A: b\r\n\r\n.\r\n.\r\n"),
        (b".A: b\r\n\r\nx\r\n", b".A: b\r\n\r\nx\r\n"),
        (b"A: b\r\n\r\nno end", b"A: b\r\n\r\nno end\r\n"),
        (b"A: b\r\n\r\n.", b"A: b\r\n\r\n.\r\n"),
        (b"A: b\r\n\r\n" + b"x\r\n" * 70_000, b"A: b\r\n\r\n" + b"x\r\n" * 70_000),
    ],
    ids=["plain", "dots", "dot first", "one dot", "no end", "dot last", "long"],
)
def test_what_arrives(sink: Sink, content: bytes, arrives: bytes) -> None:
    answers = send(server_of(sink), message(ADA, content), message(BEN))
    assert accepted(answers), answers
    assert [mail.content for mail in sink.mails] == [arrives, PLAIN]


UTF8 = "Subject: Grüße\r\n\r\nHello.\r\n".encode()
BODY8 = "Subject: Hello\r\n\r\nGrüße\r\n".encode()


@pytest.mark.parametrize(
    ("one", "options"),
    [
        (message(), {"SIZE=26"}),
        (message(content=b"A: b\r\n\r\nx"), {"SIZE=11"}),
        (message(content=BODY8), {f"SIZE={len(BODY8)}", "BODY=8BITMIME"}),
        (message(content=UTF8), {f"SIZE={len(UTF8)}", "BODY=8BITMIME", "SMTPUTF8"}),
        (message("jürgen@example.org"), {"SIZE=26", "SMTPUTF8"}),
        (message(sender="übung@example.org"), {"SIZE=26", "SMTPUTF8"}),
    ],
)
def test_mail_announces_what_is_in_it(sink: Sink, one: Message, options: set[str]) -> None:
    # The first message of a connection and the second: both know what the server can do.
    assert accepted(send(server_of(sink), one, one))
    mails = [command for command in sink.commands if command.startswith("MAIL")]
    assert [set(command.split()[2:]) for command in mails] == [options] * 2
    assert {mail.recipients for mail in sink.mails} == {(one.recipient,)}


@pytest.mark.parametrize(
    ("one", "fault"),
    [
        (message("jürgen@example.org"), NEVER),
        (message(sender="übung@example.org"), HOST),
        (message(content=UTF8), HOST),
    ],
    ids=["recipient", "sender", "header"],
)
def test_without_smtputf8(one: Message, fault: str) -> None:
    error = sent_to({b"EHLO": b"250 odd\r\n"}, one)
    assert isinstance(error, DeliveryError)
    assert blame(error) == fault
    assert "SMTPUTF8" in error.text


def test_a_server_that_knows_no_extension(sink: Sink) -> None:
    sink.on("EHLO", "502 5.5.1 What?")
    assert accepted(send(server_of(sink), message(), message(content=BODY8)))
    mails = [command for command in sink.commands if command.startswith("MAIL")]
    assert mails == ["MAIL FROM:<digest@example.org>"] * 2


@pytest.mark.parametrize(
    "address",
    ["two words@example.org", "a>b@example.org", "a\nb@example.org", "\ud800@example.org"],
)
def test_an_address_that_would_break_the_command_stops_only_itself(
    sink: Sink, address: str
) -> None:
    bad, good = send(server_of(sink), message(address), message(BEN))
    assert isinstance(bad, DeliveryError)
    assert blame(bad) == NEVER
    assert isinstance(good, Receipt)
    assert not any(command.startswith("RCPT") and BEN not in command for command in sink.commands)


def test_the_password_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Sink(login=LOGIN) as sink:
        server = server_of(sink, user=LOGIN[0], password=LOGIN[1])
        send(server, message())
        send(replace(server, password="other-s3cret"), message())
    assert "s3cret" not in caplog.text
