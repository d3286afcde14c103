"""The command line as a person meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import typer.main
from sqlalchemy import Engine, exc

from digest import __version__, cli
from digest.models import Frequency, Wishes
from digest.pipeline.accounts import ask
from digest.sample import SampleSource
from digest.services import build, with_sources
from digest.settings import Settings
from digest.storage import database, migrating, subscribers
from tests.databases import _create, _named
from tests.sink import Sink

ROOT = Path(__file__).resolve().parents[1]
NOW = "2026-05-28T12:00Z"  # a Thursday
ENTRY = [sys.executable, "-c", "from digest.cli import main; main()"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(slots=True, kw_only=True)
class Shell:
    """Runs commands in this process, in an empty directory with no settings but those set here."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    folder: Path
    engines: list[Engine] = field(default_factory=list)

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.monkeypatch.setenv(f"DIGEST_{name}", value)

    def __call__(self, command: str, *more: str) -> Said:
        self.monkeypatch.setattr(sys, "argv", ["digest", *shlex.split(command), *more])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code or 0
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        return Said(code=code, out=out, err=err)


class _Nothing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def nowhere() -> Iterator[str]:
    """A provider that has nothing: a command that reads the sources sees that at once."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Nothing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def shell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    nowhere: str,
) -> Iterator[Shell]:
    for name in list(os.environ):
        if name.startswith("DIGEST_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    found = Shell(capsys=capsys, monkeypatch=monkeypatch, folder=tmp_path)
    found.set(SOURCES="huggingface", HF_URL=nowhere)

    def opened(url: str) -> Engine:
        found.engines.append(database.open_database(url))
        return found.engines[-1]

    monkeypatch.setattr("digest.services.open_database", opened)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield found
    root.handlers[:], root.level = handlers, level
    for engine in found.engines:
        engine.dispose()
    gc.collect()


@pytest.fixture
def furnished(shell: Shell) -> Shell:
    """With sample papers as of NOW, a topic and somebody who follows it."""
    noon = datetime.fromisoformat(NOW)
    built = build(Settings(data_dir=shell.folder / "var"))
    source = SampleSource(name="huggingface", kind="huggingface")
    services = with_sources(built, [source], sample=True)
    replace(services, clock=lambda: noon - timedelta(hours=12)).collect()
    replace(services, clock=lambda: noon).collect()
    assert shell("topic add Agents 'agents OR agent'").code == 0
    wishes = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=5, name="Ada")
    ada = services.newcomer("ada@example.org", wishes, ["agents"])
    with database.writing(services.engine) as connection:
        subscribers.add_many(connection, [ada], now=noon)
    return shell


# ------------------------------------------------------------------ mistakes

MISTAKES = {
    "no such command": ("bogus", "No such command 'bogus'"),
    "no such option": ("status --bogus", "No such option"),
    "a number that is none": ("status --days x", "valid integer"),
    "a number too small": ("status --days 0", "greater than or equal to 1"),
    "a time that is none": ("status --now yesterday", "'yesterday' is no time"),
    "a time without a zone": ("plan --now 2026-05-28T06:00", "says no zone"),
    "a date without a zone": ("run --now 2026-05-28", "says no zone"),
    "the first year": ("status --now 0001-01-01T00:00:00Z", "is too far away"),
    "the first instant, eastward": ("status --now 0001-01-01T00:00+14:00", "is too far away"),
    "the last year": ("preview a@example.org --now 9999-12-31T23:59Z", "is too far away"),
    "a topic without a name": ("topic add ' ' agents", "A topic needs a name"),
    "a topic's name with a bell": ("topic add 'a\ab' agents", "no text"),
    "a topic's endless name": (f"topic add {'a' * 101} agents", "100 at most"),
    "a short name with a space": (
        "topic add Agents agents --slug 'Two Words'",
        "Write it as two-words",
    ),
    "an empty filter": ("topic add Agents ''", "The filter is empty"),
    "a filter that is not closed": ("topic add Agents 'agents AND ('", "never closed"),
    "an unknown field": ("topic test 'bogus:y'", "bogus: is not a field"),
    "an endless filter": (f"topic add Agents '{'a OR ' * 2000} b'", "at most 2,000 characters"),
    "an unknown topic": ("topic remove robots", "There is no topic robots"),
    "no address": ("subscriber add nobody", "must have an @-sign"),
    "no domain": ("subscriber add a@b", "should have a period"),
    "a line end in an address": (
        "subscriber add 'a@example.org\nBcc: b@example.org'",
        "invalid characters",
    ),
    "no zone": ("subscriber add a@example.org --timezone Mars/Phobos", "is no time zone"),
    "no hour": ("subscriber add a@example.org --hour 24", "no number from 0 to 23"),
    "no frequency": ("subscriber add a@example.org --frequency hourly", "is no frequency"),
    "no day": ("subscriber add a@example.org --frequency 'weekly x'", "no day of the week"),
    "no number": ("subscriber add a@example.org --max-papers 0", "no number from 1 to 50"),
    "no topic": ("subscriber add a@example.org --topic x", "There is no topic x"),
    "nobody to remove": ("subscriber remove a@example.org", "is no subscriber"),
    "nobody to preview": ("preview a@example.org", "is no subscriber"),
    "an address that is none": ("preview nobody", "must have an @-sign"),
    "no file": ("subscriber import missing.csv", "missing.csv cannot be read"),
    "a directory": ("subscriber import .", "cannot be read: Is a directory"),
    "a directory to write": ("subscriber export .", "cannot be written: Is a directory"),
    "no paper": ("paper show 1", "There is no paper 1"),
    "no paper's number": ("paper show x", "valid integer"),
    "a number beyond all": (f"paper show {10**30}", "less than or equal"),
    "nothing to split": ("paper split 1", "has no merge to undo"),
    "a test mail to nobody": ("send-test bogus", "@-sign"),
    "bytes that are no text": ("topic test a\udcff", "not UTF-8"),
}


@pytest.mark.parametrize(("command", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(command: str, words: str, shell: Shell) -> None:
    said = shell(command)
    assert (said.code, said.out) == (2, "")
    assert words in " ".join(said.err.split())


def test_a_filter_shows_where_it_is_wrong(shell: Shell) -> None:
    message, query, caret = shell("topic add Agents 'tool AND bogus:y'").err.splitlines()
    assert "(at character 10)" in message
    assert query[caret.index("^")] == "b"


WRONG_SETTINGS = {
    "a misspelt name": ({"BASE_ULR": "x"}, "Did you mean DIGEST_BASE_URL?"),
    "a misspelt zone": ({"ZONE": "Europe/Berln"}, "the nearest name is Europe/Berlin"),
    "a port that is none": ({"WEB_PORT": "70000"}, "DIGEST_WEB_PORT=70000 (environment)"),
    "mail to nowhere": ({"BASE_URL": "https://digest.example.org"}, "DIGEST_SMTP_HOST is not set"),
    "a placeholder": ({"SECRET_KEY": "changeme" * 5}, "placeholder"),
    "a secret's file": ({"SMTP_PASSWORD_FILE": "/nowhere"}, "/nowhere cannot be read"),
    "no templates": ({"TEMPLATES_DIR": "/nowhere"}, "there is no directory /nowhere"),
    "empty templates": ({"TEMPLATES_DIR": "empty"}, "email/base.html is missing"),
    "a file for a directory": ({"DATA_DIR": "file"}, "secret.key cannot be made"),
    "a directory that cannot be": ({"DATA_DIR": "/proc/nowhere"}, "secret.key cannot be made"),
    "a directory that cannot be, with a key": (
        {"DATA_DIR": "/proc/nowhere", "SECRET_KEY": "kq3ZxT8mW1rYp5uB7nC9vE2dF4gH6jL0"},
        "DIGEST_DATA_DIR",
    ),
    "no database": ({"DATABASE_URL": "sqlite:///junk"}, "file is not a database"),
    "no server": ({"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, "Connection refused"),
    "no source": ({"SOURCES": "feeds"}, "no source is left to read"),
}


@pytest.mark.parametrize(("settings", "words"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_a_wrong_setting_is_one_sentence(
    settings: dict[str, str], words: str, shell: Shell
) -> None:
    (shell.folder / "empty").mkdir()
    (shell.folder / "file").touch()
    (shell.folder / "junk").write_bytes(b"junk" * 1000)
    shell.set(**settings)
    said = shell("status")
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert "hunter2" not in said.err


BROKEN_FILES = {
    "no equals sign": (b"DIGEST_HOUR 8\n", "line 1 of .env is not NAME=value."),
    "an open quote": (b'DIGEST_SITE_NAME="abc\n', "line 1 of .env is not NAME=value."),
    "set twice": (b"DIGEST_HOUR=8\nDIGEST_HOUR=9\n", "line 2 of .env sets DIGEST_HOUR again"),
    "no text": (b"\xff\xfe", ".env cannot be read"),
}


@pytest.mark.parametrize(("content", "words"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_broken_env_file_is_one_sentence(content: bytes, words: str, shell: Shell) -> None:
    (shell.folder / ".env").write_bytes(content)
    said = shell("config")
    assert (said.code, said.out) == (2, "")
    assert words in said.err


def test_what_the_machine_refuses_is_one_sentence(furnished: Shell) -> None:
    said = furnished(f"preview ada@example.org --now {NOW} --html nowhere/mail.html")
    assert (said.code, said.out) == (2, "")
    assert said.err == "nowhere/mail.html cannot be written: No such file or directory\n"


def test_a_locked_database_is_one_sentence_and_wrong_sql_is_not(tmp_path: Path) -> None:
    one = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    two = sqlite3.connect(tmp_path / "x.db", isolation_level=None, timeout=0)
    one.execute("BEGIN EXCLUSIVE")
    sentences = []
    for statement in ("BEGIN IMMEDIATE", "SELEKT 1"):
        with pytest.raises(sqlite3.OperationalError) as caught:
            two.execute(statement)
        sentences.append(cli._sentence(exc.OperationalError(statement, {}, caught.value)))
    assert sentences == ["The database cannot be used now: database is locked.", ""]
    one.close()
    two.close()


def test_who_holds_the_lock_is_not_the_persons_mistake(shell: Shell) -> None:
    assert shell("status").code == 0
    with database.exclusive(shell.engines[0], "plan", shell.folder / "var" / "locks"):
        said = shell("plan")
    assert (said.code, said.out) == (1, "")
    assert "Another process is at it" in said.err


def test_a_taken_port_names_the_setting(shell: Shell, sink: Sink) -> None:
    shell.set(WEB_PORT=str(sink.port))
    said = shell("serve")
    assert said.code == 1
    assert f"port {sink.port} is taken" in said.err
    assert "DIGEST_WEB_PORT" in said.err


@pytest.mark.parametrize("command", ["run", "collect", "plan", "deliver"])
def test_a_moved_clock_sends_nothing_far_away(command: str, shell: Shell) -> None:
    shell.set(SMTP_HOST="smtp.invalid", SENDER_ADDRESS="digest@example.org")
    said = shell(f"{command} --now {NOW}")
    assert (said.code, said.out) == (2, "")
    assert "Add --really" in said.err
    assert shell(f"{command} --now {NOW} --really").code in (0, 1)
    shell.set(SMTP_HOST="127.0.0.1")
    assert shell(f"{command} --now {NOW}").code in (0, 1)


# ------------------------------------------------------------------ help, version, speed


def all_commands() -> list[str]:
    """Every command as it is typed, the groups too."""
    found = [""]
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        found += [name, *(f"{name} {inner}" for inner in getattr(command, "commands", {}))]
    return found


@pytest.mark.parametrize("command", all_commands())
def test_every_command_explains_itself(command: str, shell: Shell) -> None:
    shell.monkeypatch.setenv("COLUMNS", "80")
    said = shell(f"{command} --help")
    assert (said.code, said.err) == (0, "")
    assert f"Usage: digest {command}".strip() in said.out
    assert max(map(len, said.out.splitlines())) <= 80


def test_the_version(shell: Shell) -> None:
    assert shell("--version").out == f"Paper Digest {__version__}\n"


def test_help_waits_for_nothing_heavy() -> None:
    """`digest --help` answers at once because it imports next to nothing."""
    code = (
        "import sys; from digest.cli import main; sys.argv = ['digest', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'httpx', 'jinja2', 'pydantic', 'lxml', 'asyncio'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


# ------------------------------------------------------------------ JSON

JSON = [
    "collect",
    "plan",
    "deliver",
    "run",
    f"preview ada@example.org --now {NOW}",
    f"status --now {NOW}",
    "config",
    "topic list",
    "topic add Vision vision",
    f"topic test agents --now {NOW}",
    "subscriber list",
    "subscriber add bob@example.org",
    "subscriber import people.csv",
    "subscriber show ada@example.org",
    "subscriber change ada@example.org --hour 5",
    "subscriber remove ada@example.org",
    "paper show 1",
    "topic remove agents",
    "migrate",
    "send-test ada@example.org",
]


@pytest.mark.parametrize("command", JSON)
def test_json_is_all_there_is_on_standard_output(command: str, furnished: Shell) -> None:
    (furnished.folder / "people.csv").write_text("email\ncy@example.org\nnobody\n")
    said = furnished(f"{command} --json")
    assert said.json
    assert said.out.isascii()
    # A command that fails with --json fails the same way, and says so beside it.
    failing = command in ("collect", "run", "subscriber import people.csv")
    assert (said.code, bool(said.err)) == ((1, True) if failing else (0, False))


def test_an_empty_list_is_json_too(shell: Shell) -> None:
    assert shell("subscriber list --json").json == []
    assert shell("topic list --json").json == []


def test_every_command_with_json_is_listed_here() -> None:
    root: Any = typer.main.get_command(cli.app)
    found = set()
    for name, command in root.commands.items():
        for inner, leaf in getattr(command, "commands", {"": command}).items():
            if any("--json" in option.opts for option in leaf.params):
                found.add(f"{name} {inner}".strip())
    listed = {re.match(r"(?:topic |subscriber |paper )?\S+", line)[0] for line in JSON}  # type: ignore[index]
    # These need a merge, a backup, a mail that was lost: they have tests of their own.
    elsewhere = {"paper split", "backup", "restore", "restored"}
    assert found == listed | elsewhere | {name for name in found if name.startswith("delivery ")}


# ------------------------------------------------------------------ what is printed


def test_the_first_hour(shell: Shell) -> None:
    """From nothing to a subscriber, with a hint at each step of what comes next."""
    assert shell("topic list").out == "There is no topic yet. See: digest topic add --help\n"
    assert "There is nobody yet. See: digest subscriber add" in shell("subscriber list").out
    assert "No source was read yet. See: digest collect" in shell("status").out
    assert "is stored. See: digest collect" in shell("topic test agents").out
    assert "digest topic test agents" in shell("topic add Agents 'agents OR \"tool use\"'").out
    assert shell("topic add Agents agents").code == 2
    said = shell("subscriber add Ada@Example.org --topic agents --frequency 'weekly friday'")
    assert said.out == "Added Ada@Example.org. Their next digest: digest preview Ada@Example.org\n"
    assert shell("subscriber add ada@example.org").code == 2
    said = shell("subscriber change ada@example.org --hour 6 --timezone Europe/Berlin")
    assert said.out == "Changed. See: digest subscriber show ada@example.org\n"
    assert "weekly friday at 6:00, Europe/Berlin" in shell("subscriber show ada@example.org").out
    assert "no time zone" in shell("subscriber change ada@example.org --timezone Nowhere").err
    assert shell("subscriber show nobody@example.org").code == 2
    shell("subscriber change ada@example.org --hour 8 --timezone UTC")
    assert re.search(
        r"^Ada@Example.org +weekly friday 08h UTC +agents",
        shell("subscriber list").out,
        re.MULTILINE,
    )
    assert "no source could be read. See: digest status" in shell("preview ada@example.org").out
    assert shell("subscriber remove ada@example.org").out == "ada@example.org gets no more mail.\n"
    assert "got no mail already" in shell("subscriber remove ada@example.org").out
    assert "gets no mail: unsubscribed." in shell("preview ada@example.org").err
    assert "Only they can come back" in shell("subscriber add ADA@example.org").err
    assert "unsubscribed" in shell("subscriber list").out
    assert "which 1 subscriber followed" in shell("topic remove agents").out


def test_whoever_was_asked_comes_in_by_their_own_link_alone(shell: Shell) -> None:
    services = build(Settings(data_dir=shell.folder / "var"))
    ask(services.accounts, "ada@example.org", locale="en", source="x", client=ip_address("::1"))
    services.answer_requests()
    said = shell("subscriber add Ada@example.org")
    assert said.code == 2
    assert "has not confirmed: only they can, by the link in their mail" in said.err
    assert "http://127.0.0.1:8000/subscribe" in said.err
    (shell.folder / "people.csv").write_text("email\nada@example.org\n", encoding="utf-8")
    assert "Asked already, and to come in by the link" in shell("subscriber import people.csv").out
    assert "pending" in shell("subscriber show ada@example.org").out


def test_a_run_where_no_source_answers(shell: Shell) -> None:
    said = shell("run")
    assert said.code == 1
    assert "\nhuggingface: " in said.out
    assert "Planned 0 digests.\nDelivered: nothing was due." in said.out
    assert said.err == "Not all went well: huggingface (failed). See: digest status\n"


def test_preview_in_three_forms(furnished: Shell) -> None:
    plain = furnished(f"preview ada@example.org --now {NOW}")
    assert plain.code == 0
    assert "Unsubscribe" in plain.out
    assert furnished(f"preview ada@example.org --now {NOW} --text").out == plain.out
    said = furnished(f"preview ada@example.org --now {NOW} --html mail.html")
    assert said.out == "Written to mail.html\n"
    assert "<html" in (furnished.folder / "mail.html").read_text()
    found = furnished(f"preview ada@example.org --now {NOW} --json").json
    assert found["slot"] == "2026-05-29"
    assert found["choice"]["items"]
    # It is a look, not an act.
    assert furnished("status --json --now 2026-05-30T00:00Z").json["sent"] == 0


def test_a_topics_papers(furnished: Shell) -> None:
    said = furnished(f"topic test agents --now {NOW} --limit 2")
    first, blank, head, _, *rows = said.out.splitlines()
    assert re.match(r"\d+ of \d+ papers of the last 7 days match: ", first)
    assert (blank, head.split()) == ("", ["Paper", "Votes", "Title"])
    assert len(rows) == 2
    number = rows[0].split()[0]
    assert furnished(f"paper show {number}").out.splitlines()[0] in rows[0]


def test_status_adds_up_and_names_what_is_missing(furnished: Shell) -> None:
    later = "--now 2026-06-04T12:00Z"
    missing = furnished(f"status {later}")
    assert missing.code == 1
    assert "7 slots without a row: planning has not run. See: digest plan" in missing.err
    assert "and 7 without papers (outage 6, sources 1)." in furnished(f"plan {later}").out
    said = furnished(f"status {later}")
    assert said.code == 0
    numbers = dict(re.findall(r"^  (\w+) +([\d,]+)", said.out, re.MULTILINE))
    due = int(numbers.pop("due"))
    assert due == sum(map(int, numbers.values())) == 7
    assert re.search(r"^  skipped +7   outage 6, sources 1$", said.out, re.MULTILINE)


def test_what_the_mail_server_said_is_shown(shell: Shell, sink: Sink) -> None:
    shell.set(
        SMTP_HOST=sink.host,
        SMTP_PORT=str(sink.port),
        SMTP_TLS="none",
        SENDER_ADDRESS="digest@example.org",
    )
    said = shell("send-test ada@example.org")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"127.0.0.1:{sink.port} took it: 250 ")
    assert sink.mails[0].recipients == ("ada@example.org",)
    sink.on("MAIL", "550 5.7.1 digest@example.org may not send here")
    said = shell("send-test ada@example.org")
    assert (said.code, said.out) == (1, "")
    assert "did not take it: 550 5.7.1 digest@example.org may not send here" in said.err


def test_a_test_mail_in_local_mode(shell: Shell) -> None:
    assert [one["code"] for one in shell("send-test bob@example.org --json").json] == [250]
    said = shell("send-test ada@example.org")
    assert said.code == 0
    assert "It is in the local inbox: http://127.0.0.1:8000/inbox/" in said.out
    assert len(list((shell.folder / "var" / "inbox" / "new").iterdir())) == 2


def test_config_hides_secrets_and_names_origins(shell: Shell) -> None:
    (shell.folder / ".env").write_text("DIGEST_WEB_PORT=8123\nDIGEST_SMTP_PASSWORD=hunter2\n")
    shell.set(SMTP_USER="digest", SMTP_HOST="127.0.0.1", SENDER_ADDRESS="digest@example.org")
    said = shell("config")
    assert said.code == 0
    assert "hunter2" not in said.out
    assert re.search(r"^DIGEST_SMTP_PASSWORD +\*+ +line 2 of .env", said.out, re.MULTILINE)
    assert re.search(r"^DIGEST_SMTP_USER +digest +environment", said.out, re.MULTILINE)
    # The page's own address follows the port, so that a mail's links lead to it.
    assert re.search(r"^DIGEST_BASE_URL +http://127.0.0.1:8123 +default", said.out, re.MULTILINE)


def test_a_long_list_is_cut_and_says_so(shell: Shell) -> None:
    rows = "".join(f"p{n}@example.org\n" for n in range(120))
    (shell.folder / "people.csv").write_text(f"email\n{rows}")
    assert shell("subscriber import people.csv").out == "Added 120 subscribers.\n"
    shown = shell("subscriber list").out
    assert shown.count("@example.org") == 100
    assert "These are the first 100. All: digest subscriber export" in shown
    assert len(shell("subscriber list --json").json) == 120
    assert shell("subscriber export").out.count("@example.org") == 120
    assert shell("subscriber export all.csv").out == "Wrote 120 subscribers to all.csv\n"
    again = shell("subscriber import all.csv")
    assert "There already, and left as they are: 120." in again.out


def test_bad_lines_are_named_and_counted(shell: Shell) -> None:
    rows = "nobody\n" * 1_002
    (shell.folder / "people.csv").write_text(f"email\n{rows}ada@example.org\n")
    said = shell("subscriber import people.csv")
    assert said.code == 1
    assert said.out.startswith("Line 2: nobody: ")
    assert "... and 2 more bad lines.\nAdded 1 subscriber.\n" in said.out
    assert said.err == "1,002 lines could not be taken.\n"


def test_lines_are_not_folded_where_no_terminal_is(shell: Shell) -> None:
    words = " OR ".join(f"word{n}" for n in range(40))
    shell.monkeypatch.setenv("COLUMNS", "80")
    assert shell(f"topic add Long '{words}'").code == 0
    assert words in shell("topic list").out


def test_a_terminal_without_the_letters_breaks_nothing(tmp_path: Path) -> None:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DIGEST_")},
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "ascii",
    }

    def run(*args: str) -> str:
        done = subprocess.run(
            [*ENTRY, *args], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout

    assert "Added the topic" in run("topic", "add", "Ωμέγα", "agents")
    assert r"\u03a9" in run("topic", "list")
    assert json.loads(run("topic", "list", "--json"))[0]["name"] == "Ωμέγα"


# ------------------------------------------------------------------ migrate


def test_migrate_on_sqlite(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "open_database", _recorded(shell))
    assert re.match(r"The database went from empty to revision \w+\.", shell("migrate").out)
    assert re.match(r"The database is at revision \w+ already\.", shell("migrate").out)
    assert shell("status").code == 0


def test_migrate_on_postgresql(
    shell: Shell, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "open_database", _recorded(shell))
    name = f"cli_{os.getpid()}"
    _create(postgres_url, name, template="template0")
    shell.set(DATABASE_URL=_named(postgres_url, name), ALLOW_UNSAFE_DATABASE="true")
    said = shell("status")
    assert (said.code, said.out) == (2, "")
    assert said.err == "The database has no tables yet. Run: digest migrate\n"
    assert "went from empty to revision" in shell("migrate").out
    assert "already" in shell("migrate").out
    assert shell("subscriber add ada@example.org").code == 0
    assert "Nothing to send" in shell("preview ada@example.org").out
    assert shell("status").code == 0
    assert shell(f"paper show {2**63 - 1}").code == 2


def _recorded(shell: Shell) -> Any:
    open_database = database.open_database

    def opened(url: str) -> Engine:
        shell.engines.append(open_database(url))
        return shell.engines[-1]

    return opened


def test_tables_of_another_version_name_the_command(shell: Shell) -> None:
    assert shell("status").code == 0
    with shell.engines[0].begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    said = shell("status")
    assert (said.code, said.out) == (2, "")
    assert "migrated by a newer one" in said.err
    assert migrating.check(shell.engines[0]) is not None
