"""The settings: their types, defaults, meaning, and what contradicts what.

One frozen object. A field `x` is written `DIGEST_X`. Its description is what `digest config` and
docs/settings.md say, so each is one sentence that needs no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from digest.errors import N_
from digest.models import Frequency
from digest.settings import checks
from digest.settings.checks import PREFIX
from digest.settings.contradictions import ARXIV_WAIT, contradictions
from digest.settings.relays import LimitsSetting, RelaySetting
from digest.settings.relays import provider_limits as read_provider_limits
from digest.settings.relays import relays as read_relays

SMTP_PORTS = {"tls": 465, "starttls": 587, "none": 25}  # RFC 8314 3.3, RFC 6409 3.1, RFC 5321

# The first field of each group, in the order in which they are shown.
GROUPS = {
    "web_host": "Where it lives",
    "smtp_host": "The mail server",
    "site_name": "The name on it",
    "sender_address": "The sender",
    "hf_url": "The sources",
    "hour": "A new subscriber's digest",
    "signup": "Signing up",
    "cards": "Ranking and selection",
    "collect_cron": "Time and patience",
    "late_after_minutes": "Operations",
}

# What docs/settings.md says where the default is worked out.
DERIVED = {
    "base_url": "`http://127.0.0.1:` + DIGEST_WEB_PORT",
    "data_dir": "`./var`",
    "templates_dir": "the templates that come with it",
    "database_url": "`sqlite:///` + data directory + `/digest.db`",
    "smtp_port": "465, 587 or 25, by DIGEST_SMTP_TLS",
    "sender_address": "`digest@localhost` in local mode, else required",
    "sender_name": "the site's name",
    "list_id": "`digest.` + the sender's domain",
    "contact": "the privacy contact, else the sender",
}

Text = Annotated[str, AfterValidator(checks.plain)]
Address = Annotated[str, AfterValidator(checks.address)]
Page = Annotated[str, AfterValidator(checks.web_page)]
Language = Annotated[str, AfterValidator(checks.locale)]
Provider = Annotated[str, AfterValidator(checks.provider)]
Directory = Annotated[Path, AfterValidator(checks.directory)]
Templates = Annotated[Path, AfterValidator(checks.directory), AfterValidator(checks.present)]
Words = BeforeValidator(checks.split_words)
Once = AfterValidator(checks.distinct)


def _templates() -> Path:
    """The checkout's templates/, which lie beside the package; a wheel carries them inside."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "templates"
    return beside if (package.parent / "pyproject.toml").is_file() else package / "templates"


def _strong_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for number, key in enumerate(keys, start=1):
        checks.secret(key.get_secret_value(), which=f"key {number} of {len(keys)}")
    return keys


def _long_token(token: SecretStr) -> SecretStr:
    checks.token(token.get_secret_value())
    return token


def _web_hook(url: SecretStr) -> SecretStr:
    checks.web_page(url.get_secret_value())
    return url


def _sender(given: Mapping[str, Any]) -> str:
    named = given["smtp_host"] or given["relays"]
    captured = not named and checks.local(urlsplit(given["base_url"]).hostname)
    return "digest@localhost" if captured else ""


def _list_id(given: Mapping[str, Any]) -> str:
    domain = given["sender_address"].rpartition("@")[2] or urlsplit(given["base_url"]).hostname
    return f"digest.{domain}".lower()


def _contact(given: Mapping[str, Any]) -> str:
    address: str = given["privacy_contact"] or given["sender_address"]
    return "" if address.endswith("@localhost") else address


class Settings(BaseSettings):
    """All that the operator chooses; made by `load`, or from keyword arguments alone.

    A default that depends on other fields is worked out from those above it.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
    )
    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict)

    web_host: Text = Field(
        "127.0.0.1", min_length=1, description="The network address that the web server listens on."
    )
    web_port: int = Field(
        8000, ge=1, le=65535, description="The port that the web server listens on."
    )
    base_url: Annotated[str, AfterValidator(checks.public_root)] = Field(
        default_factory=lambda given: f"http://127.0.0.1:{given['web_port']}",
        description="The address that people see; every link in a mail begins with it.",
    )
    data_dir: Directory = Field(
        Path("var"), description="The directory for the database, the key file and the local inbox."
    )
    templates_dir: Templates = Field(
        default_factory=_templates, description="The directory of the mail and page templates."
    )
    database_url: Annotated[str, AfterValidator(checks.database)] = Field(
        default_factory=lambda given: f"sqlite:///{given['data_dir']}/digest.db",
        repr=False,
        description="The database, SQLite or PostgreSQL (`postgresql://user:password@host/name`).",
    )
    allow_unsafe_database: bool = Field(
        False,
        description="Use PostgreSQL although it is set to forget at a crash what it committed, so"
        " that mail may go out twice.",
    )
    secret_key: Annotated[tuple[SecretStr, ...], Words, AfterValidator(_strong_keys), Once] = Field(
        (),
        description="The keys that sign links, newest first (it signs, all verify); when unset,"
        " `secret.key` in the data directory.",
    )
    log_format: Literal["human", "json"] = Field(
        "human", description="Log lines for people, or one JSON object a line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least serious log line that is shown."
    )

    smtp_host: Text = Field(
        "",
        description="The mail server that takes the mail; when unset, a local base URL catches all"
        " mail in a local inbox.",
    )
    smtp_tls: Literal["tls", "starttls", "none"] = Field(
        "starttls", description="Encryption from the first byte, by STARTTLS, or none."
    )
    smtp_port: int = Field(
        default_factory=lambda given: SMTP_PORTS[given["smtp_tls"]],
        ge=1,
        le=65535,
        description="The mail server's port.",
    )
    smtp_user: Text = Field("", description="The user name for the mail server's login.")
    smtp_password: SecretStr = Field(
        SecretStr(""), description="The password for the mail server's login."
    )
    smtp_timeout: float = Field(
        300.0,
        gt=0,
        le=600,
        description="Seconds to wait for the mail server's answer to a command (RFC 5321: 300).",
    )
    smtp_final_timeout: float = Field(
        600.0,
        gt=0,
        le=3600,
        description="Seconds to wait for the answer after a message (RFC 5321 asks for 600).",
    )
    smtp_connections: int = Field(
        4, ge=1, le=512, description="How many connections to the mail server are used at once."
    )
    relays: Annotated[tuple[RelaySetting, ...], BeforeValidator(read_relays)] = Field(
        (),
        description="Several mail servers instead of the one above, as URLs:"
        " `smtp[s]://user:password@host:port?priority=1&connections=20&messages=100&rate=50&daily=9000`;"
        " the lowest priority that can be used is, equal ones share the work.",
    )
    provider_limits: Annotated[
        tuple[tuple[str, LimitsSetting], ...], BeforeValidator(read_provider_limits)
    ] = Field(
        (),
        description="Limits for receiving providers over each mail server:"
        " `gmail.com:rate=20,daily=50000 *:connections=5`; `*` is for all others.",
    )
    mx_lookups: bool = Field(
        True,
        description="Ask the DNS which provider receives a domain's mail, so that limits hold.",
    )

    site_name: Text = Field(
        "Paper Digest", min_length=1, description="The name on pages and at the head of each mail."
    )
    tagline: Text = Field(
        N_("The morning's papers, ranked for you"),
        description="The line under the name; this one is said in each reader's language.",
    )
    imprint_url: Page = Field("", description="The page that says who runs this.")
    privacy_contact: Address = Field("", description="The address for questions about data.")
    locale: Language = Field("en", description="The language of pages and mails: one with words.")

    public_pages: bool = Field(
        True,
        description="Show papers, topics, search and feeds to everybody; else the pages are for"
        " signing up, preferences and leaving alone.",
    )

    sender_address: Address = Field(
        default_factory=_sender, description="The address in From and in the envelope."
    )
    sender_name: Text = Field(
        default_factory=lambda given: given["site_name"], description="The name in From."
    )
    reply_to: Address = Field("", description="Where answers go when not to the sender.")
    postal_address: Text = Field(
        "", description="The sender's postal address, for the foot of each mail."
    )
    list_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$")] = Field(
        default_factory=_list_id, description="The name in the List-Id header (RFC 2919)."
    )

    hf_url: Provider = Field(
        "https://huggingface.co", description="Where Hugging Face's Daily Papers are read."
    )
    arxiv_url: Provider = Field(
        "https://export.arxiv.org", description="Where arXiv's query API is read."
    )
    arxiv_rss_url: Provider = Field(
        "https://rss.arxiv.org", description="Where arXiv's announcements are read."
    )
    arxiv_interval: float = Field(
        ARXIV_WAIT, ge=0, description="Seconds between two requests to arXiv, which asks for 3."
    )
    sources: Annotated[tuple[Literal["huggingface", "arxiv", "feeds"], ...], Words, Once] = Field(
        ("huggingface", "arxiv", "feeds"), description="The kinds of sources that are read."
    )
    categories: Annotated[
        tuple[Annotated[str, AfterValidator(checks.category)], ...], Words, Once
    ] = Field(("cs.AI", "cs.CL", "cs.CV", "cs.LG"), description="The arXiv categories.")
    feeds: Annotated[tuple[tuple[str, str], ...], BeforeValidator(checks.feeds)] = Field(
        (), description="RSS and Atom feeds, as `slug=url` separated by white space or commas."
    )
    contact: Address = Field(
        default_factory=_contact,
        description="The address by which a source can reach you, sent with each request.",
    )

    hour: int = Field(8, ge=0, le=23, description="The local hour at which it is due.")
    zone: Annotated[str, AfterValidator(checks.zone)] = Field(
        "UTC", description="The time zone, by its IANA name such as Europe/Berlin."
    )
    frequency: Frequency = Field(
        Frequency.DAILY, description="How often: daily, weekdays or weekly."
    )
    weekday: Annotated[int, BeforeValidator(checks.weekday), Field(ge=0, le=6)] = Field(
        0, description="The day of a weekly digest."
    )
    max_papers: int = Field(12, ge=1, le=50, description="The most papers in one digest.")

    signup: Literal["open", "domains", "closed"] = Field(
        "open",
        description="Who may subscribe: everybody, only addresses of DIGEST_SIGNUP_DOMAINS, or"
        " nobody.",
    )
    signup_domains: Annotated[
        tuple[Annotated[str, AfterValidator(checks.domain)], ...], Words, Once
    ] = Field((), description="The domains whose addresses may subscribe, without subdomains.")
    signup_mx: bool = Field(
        False,
        description="Ask the DNS whether an address's domain takes mail before writing there.",
    )
    welcome: bool = Field(
        True, description="Send the first digest as soon as somebody has confirmed."
    )
    account_mails_daily: int = Field(
        3,
        ge=1,
        le=100,
        description="The most mails that one address gets a day (UTC) because somebody asked for"
        " them: confirmations, lost links and the like.",
    )
    signups_hourly: int = Field(
        10,
        ge=1,
        description="The most requests for mail an hour from one network: an IPv4 /24 or IPv6 /64.",
    )
    confirmations_hourly: int = Field(
        200,
        ge=1,
        description="The most confirmation mails an hour in all; the operator is told when it is"
        " reached.",
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], Words, Once] = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        description="The networks of your proxies, whose X-Forwarded-For is believed.",
    )

    cards: int = Field(
        7, ge=1, le=50, description="How many papers have a card; the rest is a short list."
    )
    min_score: float = Field(
        0.3,
        ge=0,
        description="The score, freshness apart, below which a paper is not sent.",
    )
    weight_trend: float = Field(
        1.0, ge=0, description="How much votes, comments and stars count in the score."
    )
    weight_topic: float = Field(
        1.0, ge=0, description="How much a followed topic counts in the score."
    )
    half_life_hours: float = Field(
        36.0, gt=0, description="The age, in hours, at which votes count half."
    )
    lookback_hours: int = Field(
        72,
        ge=24,
        le=720,
        description="How many hours the first digest, and papers that rise, reach back.",
    )
    weekly_window_days: int = Field(
        7, ge=7, le=31, description="How old, in days, a paper may be to enter a weekly digest."
    )
    longest_window_days: int = Field(
        14, ge=7, le=60, description="How old, in days, a paper may be for a reader who was away."
    )
    rise_votes: int = Field(
        10, ge=1, description="The votes gained in a day from which a paper counts as rising."
    )

    collect_cron: Annotated[str, AfterValidator(checks.cron)] = Field(
        "15 */2 * * *", description="When the sources are read: five cron fields, in UTC."
    )
    fetch_timeout: float = Field(
        20.0, gt=0, le=300, description="Seconds to wait for a source's answer to one request."
    )
    fetch_budget: float = Field(
        600.0, gt=0, le=7200, description="Seconds that one read of one source may take in all."
    )
    fetch_max_bytes: int = Field(
        20_000_000, ge=100_000, description="The largest answer, in bytes, that is read."
    )
    deliver_interval: float = Field(
        5.0, gt=0, le=10, description="Seconds between two looks for mail that is due."
    )
    retry_steps_minutes: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], Words, Field(min_length=1)
    ] = Field(
        (5, 15, 30, 60, 120, 240),
        description="Minutes to wait after each temporary refusal; the last one repeats.",
    )
    give_up_hours: int = Field(
        24,
        ge=1,
        le=120,
        description="Hours after which a temporary refusal is final, at the latest.",
    )
    catch_up_hours: int = Field(
        12, ge=1, le=24, description="How late, in hours, a digest is still sent after an outage."
    )
    drain_seconds: int = Field(
        660,
        ge=1,
        le=3600,
        description="Seconds that mail under way may take to end when the service is stopped.",
    )
    unknown: Literal["keep", "resend"] = Field(
        "keep",
        description="What becomes of mail that may or may not have arrived: kept as unknown, or"
        " sent again.",
    )
    breaker_window: int = Field(
        50,
        ge=10,
        le=1000,
        description="How many of the last recipients are looked at for one kind of refusal.",
    )
    breaker_share: float = Field(
        0.3,
        gt=0,
        le=1,
        description="The share of them refused in one way above which sending there is stopped.",
    )
    retention_days: int = Field(
        90, ge=1, description="Days for which attempts and what the sources said are kept."
    )

    late_after_minutes: int = Field(
        60,
        ge=5,
        le=1440,
        description="Minutes after which digests that are due and not out are told of as late.",
    )
    alert_webhook: Annotated[SecretStr, AfterValidator(_web_hook)] = Field(
        SecretStr(""), description="Where alerts are posted to, as JSON."
    )
    alert_mail: Address = Field("", description="Who gets a mail for each alert.")
    metrics_token: Annotated[SecretStr, AfterValidator(_long_token)] = Field(
        SecretStr(""),
        description="The bearer token for `/metrics` and `/status.json`; when unset, only this"
        " machine sees them.",
    )
    probe_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="The port at which the scheduler and workers say how they are; 0 is none.",
    )
    digest_retention_days: int = Field(
        400,
        ge=90,
        description="Days after which an old digest can no longer be shown; which papers it held"
        " is never forgotten.",
    )

    @classmethod
    def settings_customise_sources(
        cls, *_: Any, **sources: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take keyword arguments only: `load` reads the rest, and knows where each came from."""
        return (sources["init_settings"],)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        found = tuple(contradictions(self))
        if found:
            # PydanticCustomError keeps the pairs for `load`, which names each by its setting.
            text = "; ".join(f"{PREFIX}{names[0].upper()}: {why}" for names, why in found)
            raise PydanticCustomError("contradiction", "{text}", {"text": text, "found": found})
        return self

    @property
    def local_base(self) -> bool:
        """Whether the base URL names this machine."""
        return checks.local(urlsplit(self.base_url).hostname)

    @property
    def local(self) -> bool:
        """Local mode: no mail server, and only this machine sees the pages."""
        return not self.has_relay and self.local_base

    @property
    def has_relay(self) -> bool:
        """Whether a mail server is named."""
        return bool(self.smtp_host or self.relays)
