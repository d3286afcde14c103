"""What forms bring is text that every database holds, whatever was sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from digest.models import Frequency, Wishes
from digest.tokens import Purpose
from digest.web.forms import natural, text
from tests.web_site import Running, add_subscriber, dump, serving, token

WISHES = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=12)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("web")) as running:
        yield running


def test_what_no_database_holds_is_replaced() -> None:
    assert text(FormData({"name": " a\0b\ud800 "}), "name") == "a\ufffdb\ufffd"
    assert text(FormData(), "name") == ""
    with pytest.raises(HTTPException):
        text(FormData({"name": "x" * 11}), "name", most=10)


@pytest.mark.parametrize(
    ("written", "number"),
    [("0", 0), ("17", 17), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("9" * 5_000, None)]
    + [(written, None) for written in ("", "-1", "+1", "1.0", "1e3", " 1", "٣", "²", "x")],
)
def test_numbers(written: str, number: int | None) -> None:
    assert natural(written) == number


@pytest.mark.parametrize("paper", ["9" * 30, "9" * 900, "-1", "x", ""])
def test_a_number_of_no_paper_is_refused(web: Running, paper: str) -> None:
    person = add_subscriber(web.engine, "ada@example.org", WISHES)
    before = dump(web.engine)
    form = {"what": "take_back", "action": "more", "paper": paper}
    page = f"/me/{token(Purpose.PREFERENCES, person)}"
    assert web.client.post(page, data=form).status_code == 400
    assert dump(web.engine) == before


@pytest.mark.parametrize("charset", ["utf-8", "UTF-16", "unicode_escape", "idna", "none", '"'])
def test_a_form_is_utf_8_whatever_it_says(web: Running, charset: str) -> None:
    person = add_subscriber(web.engine, "bo@example.org", WISHES)
    fields = {"what": "save", "max_papers": "0", "authors": "Bø \\ud800 \\8 Li"}
    whole = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    answer = web.client.post(
        f"/me/{token(Purpose.PREFERENCES, person)}",
        content=f"{whole}--b--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"},
    )
    assert answer.status_code == 422  # by the number of papers; what was typed is shown again
    assert "Bø \\ud800 \\8 Li</textarea>" in answer.text
