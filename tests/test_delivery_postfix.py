"""Each refusal as Postfix's own test server makes it: verdicts, and what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from digest.delivery import Server
from tests.letters import (
    ADA,
    BEN,
    CLEO,
    HOST,
    LATER,
    NEVER,
    UNKNOWN,
    chained,
    message,
    one_by_one,
    send,
    verdicts,
)
from tests.smtp_sink import smtp_sink

READERS = [ADA, BEN, CLEO]
SOFT, HARD, CLOSE, SHUT = "-r", "-f", "-q", "-Q"  # 450, 500, no answer, 421
BEFORE = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA")
AFTER = ("RSET", "QUIT")

# What each of three messages becomes when a command is always answered so. smtp-sink offers no
# pipelining with -f and -r.
EXPECTED = {
    **{(SOFT, step): LATER for step in ("MAIL", "RCPT", "DATA", ".")},
    **{(HARD, step): NEVER for step in ("MAIL", "RCPT", "DATA", ".")},
    **{(option, step): HOST for option in (CLOSE, SHUT) for step in BEFORE},
    **{(option, "CONNECT"): HOST for option in (SOFT, HARD)},
    **{(option, "EHLO"): "sent" for option in (SOFT, HARD)},  # HELO will do
    (CLOSE, "."): UNKNOWN,
    (SHUT, "."): HOST,
    **{(option, step): "sent" for option in (SOFT, HARD, CLOSE, SHUT) for step in AFTER},
}


@pytest.mark.parametrize("way", [one_by_one, chained])
@pytest.mark.parametrize(("option", "step"), EXPECTED)
def test_each_refusal_at_each_step(tmp_path: Path, way: Any, option: str, step: str) -> None:
    expected = EXPECTED[option, step]
    with smtp_sink(tmp_path, option, step) as sink:
        server = Server(host="127.0.0.1", port=sink.port, tls="none", timeout=5, final_timeout=5)
        answers = send(server, *map(message, READERS), way=way)
    assert verdicts(answers) == [expected] * 3
    assert sink.recipients == (READERS if expected == "sent" or step == "." else [])


@pytest.mark.parametrize("way", [one_by_one, chained])
@pytest.mark.parametrize("option", ["-8", "-p", "-e"], ids=["7 bits", "no pipelining", "no ESMTP"])
def test_each_message_arrives_once_in_its_order(tmp_path: Path, way: Any, option: str) -> None:
    readers = [f"reader{number}@example.org" for number in range(250)]
    with smtp_sink(tmp_path, option) as sink:
        server = Server(host="127.0.0.1", port=sink.port, tls="none", timeout=5, final_timeout=5)
        answers = send(server, *map(message, readers), way=way)
    assert verdicts(answers) == ["sent"] * len(readers)
    assert sink.recipients == readers
