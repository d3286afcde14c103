"""Envelopes in one piece, and with the content before: what goes wrong stays where it belongs."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from digest.delivery import Connection
from digest.errors import DeliveryError
from digest.models import Message, Receipt
from tests.letters import (
    ADA,
    BEN,
    CLEO,
    HOST,
    LATER,
    NEVER,
    PLAIN,
    UNKNOWN,
    blame,
    chained,
    message,
    one_by_one,
    send,
    server_of,
    verdicts,
)
from tests.raw_sink import NOBODY, USUAL, RawSink
from tests.sink import Certificate, Step

WAYS = [
    pytest.param(one_by_one, True, id="pipelined"),
    pytest.param(chained, True, id="chained"),
    pytest.param(chained, False, id="plain"),
]


def letter(recipient: str, **more: Any) -> Message:
    """A message whose sender names its recipient, so that a test can tell MAIL commands apart."""
    return message(recipient, **{"sender": sender_to(recipient)} | more)


def sender_to(recipient: str) -> str:
    return recipient.replace("@", "=") + "@digest.example"


ALL = (letter(ADA), letter(BEN), letter(CLEO))


@pytest.fixture
def sink() -> Iterator[RawSink]:
    with RawSink() as server:
        yield server


def extensions(*, pipelining: bool = True) -> list[str]:
    return [one for one in USUAL if pipelining or one != "PIPELINING"]


def recipients(sink: RawSink) -> list[str]:
    """Who got a content, in order; each mail has one recipient."""
    return [one for mail in sink.mails for one in mail.recipients]


# ------------------------------------------------------------------ refusals

TEMPORARY, FINAL, CLOSING = "450 4.2.1 Not now", "550 5.7.1 Not ever", "421 4.3.2 Closing"
# What becomes of the middle one of three. A connection that was used and ends before MAIL is
# answered is made anew.
MIDDLE: dict[tuple[Step, str], str] = {
    **{(step, TEMPORARY): LATER for step in ("MAIL", "RCPT", "DATA", ".")},
    **{(step, FINAL): NEVER for step in ("MAIL", "RCPT", "DATA", ".")},
    **{("MAIL", reply): "sent" for reply in (CLOSING, "", "Nonsense")},
    **{(step, reply): HOST for step in ("RCPT", "DATA") for reply in (CLOSING, "", "Nonsense")},
    (".", CLOSING): HOST,
    (".", ""): UNKNOWN,
    (".", "Nonsense"): UNKNOWN,
}


@pytest.mark.parametrize(("way", "pipelining"), WAYS)
@pytest.mark.parametrize(("step", "reply"), MIDDLE)
def test_a_refusal_concerns_one_message(way: Any, pipelining: bool, step: Step, reply: str) -> None:
    expected = MIDDLE[step, reply]
    with RawSink(extensions=extensions(pipelining=pipelining)) as sink:
        concerned = sender_to(BEN) if step == "MAIL" else BEN
        sink.on(step, reply, recipient=concerned, close=not reply, times=1)
        answers = send(server_of(sink), *ALL, way=way)
        assert verdicts(answers) == ["sent", expected, "sent"]
        assert recipients(sink) == [ADA, *([BEN] if expected == "sent" else []), CLEO]
        assert len(sink.arrived) == (2 if expected != "sent" and step != "." else 3)
        kept = reply in (TEMPORARY, FINAL)
        assert sink.connections == (1 if kept else 2)
        assert sink.commands.count("RSET") == (kept and step != ".")
        if isinstance(answers[1], DeliveryError) and reply[:3].isdecimal():
            assert str(answers[1]) == reply


def test_the_next_envelope_travels_with_the_content(sink: RawSink) -> None:
    send(server_of(sink), *ALL, way=chained)
    assert sink.behind == [
        b"MAIL FROM:<%b> SIZE=26\r\nRCPT TO:<%b>\r\nDATA\r\n"
        % (sender_to(one).encode(), one.encode())
        for one in (BEN, CLEO)
    ] + [b""]


@pytest.mark.parametrize("way", [one_by_one, chained])
@pytest.mark.parametrize("drips", [False, True], ids=["in one piece", "byte by byte"])
def test_answers_in_pieces(way: Any, drips: bool) -> None:
    with RawSink(drips=drips) as sink:
        sink.on("RCPT", "250-2.1.5 It is\r\n250-2.1.5 all\r\n250 2.1.5 right")
        sink.on("RCPT", "550-5.1.1 Nobody\r\n550 5.1.1 here", recipient=BEN)
        answers = send(server_of(sink), *ALL, way=way)
        assert verdicts(answers) == ["sent", NEVER, "sent"]
        assert str(answers[1]) == "550 5.1.1 Nobody 5.1.1 here"


@pytest.mark.parametrize("way", [one_by_one, chained])
def test_the_first_no_is_the_one_that_counts(sink: RawSink, way: Any) -> None:
    sink.on("MAIL", "450 4.7.1 Slow down", recipient=sender_to(BEN))
    sink.on("RCPT", "550 5.1.1 Nobody", recipient=BEN)
    answers = send(server_of(sink), *ALL, way=way)
    assert str(answers[1]) == "450 4.7.1 Slow down"
    assert verdicts(answers) == ["sent", LATER, "sent"]


@pytest.mark.parametrize("way", [one_by_one, chained])
def test_a_no_stands_though_the_connection_ends_with_it(sink: RawSink, way: Any) -> None:
    sink.on("RCPT", FINAL, recipient=BEN, close=True)
    assert verdicts(send(server_of(sink), *ALL, way=way)) == ["sent", NEVER, "sent"]
    assert recipients(sink) == [ADA, CLEO]


# ------------------------------------------------------------------ a content that nobody wants


@pytest.mark.parametrize("way", [one_by_one, chained])
@pytest.mark.parametrize("step", ["MAIL", "RCPT"])
@pytest.mark.parametrize(
    ("reply", "close", "connections"),
    [
        pytest.param("", False, 1, id="refused"),
        pytest.param("450 4.5.0 No", False, 1, id="refused for now"),
        pytest.param("250 2.0.0 Kept", False, 2, id="taken"),
        pytest.param(CLOSING, True, 2, id="421"),
        pytest.param("", True, 2, id="closed"),
        pytest.param("354 More", False, 2, id="asked again"),
        pytest.param("Nonsense", False, 2, id="malformed"),
    ],
)
def test_a_content_asked_for_without_a_recipient_is_a_lone_dot(
    way: Any, step: Step, reply: str, close: bool, connections: int
) -> None:
    with RawSink(obliging=True) as sink:
        sink.on(step, FINAL, recipient=sender_to(BEN) if step == "MAIL" else BEN)
        if reply or close:
            sink.on(".", reply, close=close, recipient=NOBODY)
        assert verdicts(send(server_of(sink), *ALL, way=way)) == ["sent", NEVER, "sent"]
        assert [mail.content for mail in sink.arrived] == [PLAIN, b"", PLAIN]
        assert [mail.recipients for mail in sink.arrived] == [(ADA,), (), (CLEO,)]
        assert sink.connections == connections


# ------------------------------------------------------------------ resets


@pytest.mark.parametrize("way", [one_by_one, chained])
@pytest.mark.parametrize(
    ("reply", "close", "connections"),
    [("250 2.0.0 Forgotten", False, 1), ("502 5.5.1 What?", False, 2), ("", True, 2)],
    ids=["done", "refused", "closed"],
)
def test_what_a_refused_envelope_left_is_reset(
    sink: RawSink, way: Any, reply: str, close: bool, connections: int
) -> None:
    sink.on("RCPT", FINAL, recipient=BEN)
    sink.on("RSET", reply, close=close)
    assert verdicts(send(server_of(sink), *ALL, way=way)) == ["sent", NEVER, "sent"]
    assert sink.connections == connections


# ------------------------------------------------------------------ losses


async def until(true: Callable[[], object]) -> None:
    while not true():  # noqa: ASYNC110 - the sink runs in a thread and has no event of this loop
        await asyncio.sleep(0)


def test_nothing_is_sent_to_a_server_that_went_after_its_354(sink: RawSink) -> None:
    sink.on("DATA", "354 Go on", close=True, times=1)

    async def wait(connection: Connection, messages: Any) -> Any:
        await connection.offer(messages[0])
        await until(lambda: not connection.is_open)
        with pytest.raises(DeliveryError) as caught:
            await connection.hand_over(messages[1])
        assert (blame(caught.value), sink.arrived) == (HOST, [])
        await connection.offered()
        return [await connection.hand_over(), *await one_by_one(connection, messages[2:])]

    assert verdicts(send(server_of(sink), *ALL, way=wait)) == ["sent", "sent"]
    assert recipients(sink) == [BEN, CLEO]


@pytest.mark.parametrize("end", ["421 4.3.2 Closing", "250 2.0.0 Fine", "Nonsense"])
def test_what_the_server_says_unasked_ends_the_connection(sink: RawSink, end: str) -> None:
    sink.on("DATA", f"354 Go on\r\n{end}", times=1)
    assert verdicts(send(server_of(sink), *ALL)) == [HOST, "sent", "sent"]
    assert [mail.recipients for mail in sink.arrived] == [(BEN,), (CLEO,)]
    sink.on(".", f"250 2.0.0 Kept\r\n{end}", times=1)
    assert verdicts(send(server_of(sink), *ALL)) == ["sent"] * 3
    assert sink.connections == 4


def test_one_answer_too_many_never_passes_for_a_yes_to_the_next(sink: RawSink) -> None:
    sink.on(".", "250 2.0.0 Kept\r\n250 2.0.0 Kept", times=1)
    # It is taken for the answer to MAIL, and so on: what answers DATA is no 354.
    assert verdicts(send(server_of(sink), *ALL, way=chained)) == ["sent", HOST, "sent"]
    assert [mail.recipients for mail in sink.arrived] == [(ADA,), (CLEO,)]


@pytest.mark.parametrize(
    "reply",
    ["250 " + "x" * 40_000, "250-\r\n" * 10_000 + "250 end", "250-one\r\n550 other", "2500", "25"],
    ids=["line", "lines", "two codes", "four digits", "two digits"],
)
def test_a_reply_out_of_bounds_is_none(sink: RawSink, reply: str) -> None:
    sink.on("RCPT", reply, recipient=BEN, times=1)
    sink.on(".", reply, recipient=CLEO, times=1)
    assert verdicts(send(server_of(sink), *ALL, way=chained)) == ["sent", HOST, UNKNOWN]
    assert [mail.recipients for mail in sink.arrived] == [(ADA,), (CLEO,)]


@pytest.mark.parametrize(("way", "pipelining"), WAYS)
@pytest.mark.parametrize(
    ("step", "expected"),
    [("MAIL", "sent"), ("RCPT", HOST), ("DATA", HOST), (".", UNKNOWN)],
)
def test_a_late_answer_concerns_one_message(
    way: Any, pipelining: bool, step: Step, expected: str
) -> None:
    with RawSink(extensions=extensions(pipelining=pipelining)) as sink:
        concerned = sender_to(BEN) if step == "MAIL" else BEN
        sink.on(step, recipient=concerned, delay=60, times=1)
        server = server_of(sink, timeout=0.3, final_timeout=0.3)
        assert verdicts(send(server, *ALL, way=way)) == ["sent", expected, "sent"]


def test_data_is_given_two_minutes_of_five(sink: RawSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digest.delivery.server.DATA_TIMEOUT", 0.2)
    sink.on("DATA", delay=60, times=1)
    server = server_of(sink, timeout=300, final_timeout=600)
    assert verdicts(send(server, *ALL)) == [HOST, "sent", "sent"]


def test_a_message_that_is_withdrawn_does_not_arrive(sink: RawSink) -> None:
    async def withdraw(connection: Connection, messages: Any) -> Any:
        await connection.offer(messages[0])
        connection.withdraw()
        assert not connection.is_open
        await connection.offer(messages[1])
        receipt = await connection.hand_over(messages[2])
        await connection.offered()
        await connection.close()  # with an envelope that waits for its content
        return [receipt]

    assert verdicts(send(server_of(sink), *ALL, way=withdraw)) == ["sent"]
    assert [mail.recipients for mail in sink.arrived] == [(BEN,)]
    assert sink.cut == []  # no QUIT in a content's place either


@pytest.mark.parametrize("step", ["RCPT", "DATA", "."])
def test_who_is_cancelled_loses_the_connection(sink: RawSink, step: Step) -> None:
    sink.on(step, delay=60, times=1)

    async def give_up(connection: Connection, messages: Any) -> Any:
        sending = asyncio.create_task(connection.send(messages[0]))
        await until(lambda: sink.arrived or (step != "." and step in " ".join(sink.commands)))
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
        assert not connection.is_open
        return await one_by_one(connection, messages[1:])

    assert verdicts(send(server_of(sink), *ALL, way=give_up)) == ["sent", "sent"]
    assert recipients(sink) == [BEN, CLEO]
    assert sink.connections == 2


def test_an_offer_that_nobody_took_up_is_not_answered_with_the_next(sink: RawSink) -> None:
    async def twice(connection: Connection, messages: Any) -> Any:
        await connection.offer(messages[0])
        return await one_by_one(connection, messages[1:])

    assert verdicts(send(server_of(sink), *ALL, way=twice)) == ["sent", "sent"]
    assert [mail.recipients for mail in sink.arrived] == [(BEN,), (CLEO,)]
    assert sink.cut == []


# ------------------------------------------------------------------ limits, TLS


@pytest.mark.parametrize(("way", "pipelining"), WAYS)
def test_a_connection_carries_so_many_envelopes(way: Any, pipelining: bool) -> None:
    with RawSink(extensions=extensions(pipelining=pipelining)) as sink:
        answers = send(server_of(sink, messages=2), *ALL, letter("dan@example.org"), way=way)
        assert verdicts(answers) == ["sent"] * 4
        assert [mail.connection for mail in sink.mails] == [1, 1, 2, 2]
        assert sink.commands.count("QUIT") == 2


@pytest.mark.parametrize("way", [one_by_one, chained])
@pytest.mark.parametrize(
    ("odd", "error"),
    [
        (
            letter(BEN, content=PLAIN + b"x" * 1000),
            "552 5.3.4 The message has 1028 bytes, the mail server takes 1000",
        ),
        (letter("b n@example.org"), "5.1.3 This is no address"),
    ],
    ids=["too long", "no address"],
)
def test_what_is_refused_unasked_leaves_the_others_alone(
    way: Any, odd: Message, error: str
) -> None:
    with RawSink(extensions=["PIPELINING", "SIZE 1000"]) as sink:
        answers = send(server_of(sink), letter(ADA), odd, letter(CLEO), way=way)
        assert verdicts(answers) == ["sent", NEVER, "sent"]
        assert str(answers[1]) == error
        assert len([one for one in sink.commands if one.startswith("MAIL")]) == 2
        assert sink.connections == 1


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE 26", "SIZE plenty"])
def test_a_size_that_is_enough_or_says_nothing(size: str) -> None:
    with RawSink(extensions=[size]) as sink:
        assert verdicts(send(server_of(sink), message())) == ["sent"]
        assert "MAIL FROM:<digest@example.org> SIZE=26" in sink.commands


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
@pytest.mark.parametrize("drips", [False, True], ids=["in one piece", "byte by byte"])
@pytest.mark.parametrize(("reply", "expected"), [(FINAL, NEVER), ("Nonsense", HOST), ("", HOST)])
def test_chained_over_tls(
    certificate: Certificate, kind: Any, drips: bool, reply: str, expected: str
) -> None:
    tls = "tls" if kind == "implicit" else kind
    context = ssl.create_default_context(cafile=certificate.path)
    long = [letter(one, content=PLAIN + b"0123456789\r\n" * 5_000) for one in (ADA, BEN, CLEO)]
    with RawSink(tls=kind, certificate=certificate, drips=drips) as sink:
        sink.on("RCPT", reply, recipient=BEN, close=not reply)
        answers = send(server_of(sink, tls=tls), *long, tls_context=context, way=chained)
        assert verdicts(answers) == ["sent", expected, "sent"]
        assert [mail.content for mail in sink.mails] == [long[0].content, long[2].content]
        assert all(mail.tls for mail in sink.mails)
        if kind == "starttls":
            assert sink.behind[0] == b""  # nothing travels with STARTTLS
            assert [one.split()[0] for one in sink.commands[:3]] == ["EHLO", "STARTTLS", "EHLO"]


def test_contents_that_are_ready_are_not_looked_through(sink: RawSink) -> None:
    async def ready() -> Receipt:
        async with Connection(server_of(sink), ready=True) as connection:
            return await connection.send(letter(ADA, content=b"A: b\r\n\r\n..\r\nend"))

    assert asyncio.run(ready()).code == 250
    assert sink.mails[0].content == b"A: b\r\n\r\n.\r\nend\r\n"


# ------------------------------------------------------------------ anything at any time

REPLIES = (TEMPORARY, FINAL, CLOSING, "", "Nonsense", "250 2.0.0 Fine", "354 Go on")


@pytest.mark.parametrize(("way", "pipelining"), WAYS)
@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_each_message_is_accounted_for(
    way: Any, pipelining: bool, seed: int
) -> None:
    chance = random.Random(seed)
    messages = [letter(f"reader{number}@example.org") for number in range(40)]
    places: tuple[Step, ...] = ("MAIL", "RCPT", "DATA", ".")
    with RawSink(
        extensions=extensions(pipelining=pipelining), obliging=chance.random() < 0.5
    ) as sink:
        for one in messages:
            if chance.random() < 0.5:
                step, reply = chance.choice(places), chance.choice(REPLIES)
                concerned = one.sender if step == "MAIL" else one.recipient
                close = reply in (CLOSING, "") or chance.random() < 0.2
                sink.on(step, reply, recipient=concerned, close=close, times=1)
        server = server_of(sink, messages=chance.choice([3, 100]))
        answers = send(server, *messages, way=way)
        for one, verdict in zip(messages, verdicts(answers), strict=True):
            copies = [mail for mail in sink.arrived if one.recipient in mail.recipients]
            assert all(mail.recipients == (one.recipient,) for mail in copies)
            assert len(copies) <= 1
            assert [mail.content for mail in copies if mail.accepted] == (
                [one.content] if verdict == "sent" else []
            )
