"""Which work a record is about: exact keys that two records share only if they are one work.

Strong keys are the arXiv id and the DOI. Where one of two records has neither, they are one work
when they share a title key; storage looks keys up, nothing is compared in pairs. The title rule
is made for precision, because a false merge hides a paper:

- Equal titles, after folding case, accents, punctuation and blanks; of three words at least, and
  none that many works bear ("Editor's notes", "Reminiscences on influential papers").
- And the same year, and the last name of an author: the first one listed, or the alphabetically
  first or last one, since sources order and shorten the list differently. What is at most 45 days
  from a New Year also agrees with what is so on its other side.
- Or, whoever is named, the same page: two feeds with one blog post, one of them without authors.
- A record without authors on another page is a work of its own.

`benchmarks/dedupe.py` measures it: precision 0.998 (DBLP-ACM) and 1.000 (DBLP-Scholar).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import timedelta
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from digest.models import Record

# arXiv's id scheme (info.arxiv.org/help/arxiv_identifier.html): YYMM.NNNN to 1412, then YYMM.NNNNN;
# before 0704 archive[.class]/YYMMNNN.
_ARCHIVES = (
    "acc-phys|adap-org|alg-geom|ao-sci|astro-ph|atom-ph|bayes-an|chao-dyn|chem-ph|cmp-lg|comp-gas|"
    "cond-mat|cs|dg-ga|funct-an|gr-qc|hep-ex|hep-lat|hep-ph|hep-th|math|math-ph|mtrl-th|nlin|"
    "nucl-ex|nucl-th|patt-sol|physics|plasm-ph|q-alg|q-bio|quant-ph|solv-int|supr-con"
)
_MONTH = r"(?:0[1-9]|1[0-2])"
_ARXIV_ID = re.compile(
    rf"(?P<new>(?:0[7-9]|1[0-4]){_MONTH}\.\d{{4}}|(?:1[5-9]|[2-9]\d){_MONTH}\.\d{{5}})"
    rf"(?:v(?P<new_version>[1-9]\d{{0,2}}))?"
    rf"|(?P<archive>{_ARCHIVES})(?:\.[a-z-]+)?/(?P<number>\d\d{_MONTH}\d{{3}})"
    rf"(?:v(?P<old_version>[1-9]\d{{0,2}}))?",
    re.IGNORECASE,
)
_ARXIV_PREFIX = re.compile(
    r"^(?:oai:arxiv\.org:|arxiv:\s?|(?:doi:\s?)?10\.48550/arxiv\.)", re.IGNORECASE
)
_ARXIV_HOSTS = frozenset({"arxiv.org", "alphaxiv.org", "ar5iv.org"})
_ARXIV_PATH = re.compile(
    r"^/(?:abs|pdf|html|format|ps|e-print|src|bibtex|overview)/(?P<id>[^?#]+?)(?:\.pdf)?/?$"
)
_HF_HOSTS = frozenset({"huggingface.co", "hf.co"})
_HF_PATH = re.compile(r"^/papers/(?P<id>[^/]+?)(?:\.md)?/?$")

_DOI_HOSTS = frozenset({"doi.org", "dx.doi.org"})
_DOI = re.compile(r"10\.\d{4,9}(?:\.\d+)*/\S{1,300}")  # a database's index ends at 2,700 bytes
_ARXIV_DOI = "10.48550/arxiv."

_GENERIC = re.compile(
    r"\b(?:editorial|editor s|editors|reminiscences|book reviews?|column|message|preface|foreword|"
    r"guest|erratum|errata|corrigendum|panel|special issue|call for (?:papers|participation)|"
    r"newsletter|weekly|monthly|news|announcements?|table of contents|front matter|in this issue)\b"
)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")
_LETTERS = re.compile(r"[^\W\d_]+")
_NAME_SUFFIXES = frozenset({"jr", "sr", "ii", "iii", "iv", "phd", "md", "et", "al"})
_NEAR_NEW_YEAR = timedelta(days=45)
_TRACKING = re.compile(r"^(?:utm_\w+|fbclid|gclid|ref|source|mc_\w+)$")


def parse_arxiv_id(text: str) -> tuple[str, int | None] | None:
    """The canonical arXiv id that `text` is, and its version if it names one.

    Takes a bare id, `arXiv:...`, `oai:arXiv.org:...`, arXiv's DOI, and the address of a page of
    arXiv, alphaXiv or Hugging Face papers. Canonical: no version, no subject class, lower case.
    """
    text = text.strip()
    if "://" in text:
        text = _id_in_address(text)
    found = _ARXIV_ID.fullmatch(_ARXIV_PREFIX.sub("", text))
    if found is None:
        return None
    if found["new"]:
        version = found["new_version"]
        return found["new"], int(version) if version else None
    version = found["old_version"]
    return f"{found['archive'].lower()}/{found['number']}", int(version) if version else None


def parse_doi(text: str) -> str | None:
    """The canonical DOI that `text` is: lower case, no prefix; None for arXiv's own DOI."""
    text = text.strip()
    if "://" in text:
        host, path = _host_and_path(text)
        if host not in _DOI_HOSTS:
            return None
        text = unquote(path).lstrip("/")
    text = re.sub(r"^(?:doi:\s*|(?:dx\.)?doi\.org/)", "", text.lower()).rstrip(".,;")
    if not _DOI.fullmatch(text) or text.startswith(_ARXIV_DOI):
        return None
    return text


def named_in(text: str) -> tuple[str, str] | None:
    """The first strong key, `("arxiv", id)` or `("doi", doi)`, that stands in what was pasted.

    Takes what `parse_arxiv_id` and `parse_doi` take, addresses without their https:// too, alone or
    among other words: "Ada Lovelace, arXiv:2605.00001v2 [cs.LG], 2026". None where two of a kind
    differ: which of the papers is meant nobody knows.
    """
    keys: dict[str, str] = {}
    for found in (text, *text.split()):
        written = found.strip(" \t\r\n<>()[]{}\"'“”„«»,;.")
        if written.count("(") > written.count(")"):
            written += ")"  # a DOI may end in one: 10.1000/S0022(05)
        for one in (written, f"https://{written}"):
            arxiv = parse_arxiv_id(one)
            kind, value = ("arxiv", arxiv[0]) if arxiv else ("doi", parse_doi(one))
            if value and keys.setdefault(kind, value) != value:
                return None
    return next(iter(keys.items()), None)


def identifiers(record: Record) -> tuple[tuple[str, str], ...]:
    """The record's strong keys, `("arxiv", id)` before `("doi", doi)`; its own address counts."""
    keys = []
    arxiv = parse_arxiv_id(record.arxiv_id or "") or parse_arxiv_id(record.url)
    if arxiv:
        keys.append(("arxiv", arxiv[0]))
    doi = parse_doi(record.doi or "") or parse_doi(record.url)
    if doi:
        keys.append(("doi", doi))
    return tuple(keys)


def title_identifiers(record: Record) -> tuple[tuple[str, str], ...]:
    """The record's title keys, `("title", hash)`: at most seven, sorted; none for some titles."""
    words = _WORD.findall(_fold(record.title))
    if len(words) < 3 or _GENERIC.search(" ".join(words)):
        return ()
    title = "".join(words)
    day = record.published_at or record.listed_at
    before, after = (day - _NEAR_NEW_YEAR).year, (day + _NEAR_NEW_YEAR).year
    years = {f"{day.year}"} | ({f"{before}/{after}"} if before != after else set())
    names = [name for name in map(_last_name, record.authors) if name]
    telling = {names[0], min(names), max(names)} if names else set()
    keys = {f"{title}|{year}|{name}" for year in years for name in telling}
    if not identifiers(record) and (page := _page(record.url)):
        keys.add(f"{title}|{page}")
    return tuple(
        ("title", hashlib.blake2b(key.encode(), digest_size=16).hexdigest()) for key in sorted(keys)
    )


def _id_in_address(address: str) -> str:
    host, path = _host_and_path(address)
    if host in _DOI_HOSTS:
        return unquote(path).lstrip("/")
    pattern = None
    if host in _HF_HOSTS:
        pattern = _HF_PATH
    elif any(host == known or host.endswith(f".{known}") for known in _ARXIV_HOSTS):
        pattern = _ARXIV_PATH
    found = pattern.match(unquote(path)) if pattern else None
    return found["id"] if found else ""


def _host_and_path(address: str) -> tuple[str, str]:
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return "", ""
    return (host, parts.path) if parts.scheme in ("http", "https") else ("", "")


def _page(address: str) -> str:
    """An address as a key: no scheme, www, fragment or tracking; empty for a home page."""
    host, path = _host_and_path(address)
    path = path.rstrip("/")
    query = [
        pair
        for pair in parse_qsl(urlsplit(address).query if host else "")
        if not _TRACKING.match(pair[0])
    ]
    return f"{host}{path}?{urlencode(sorted(query))}" if path or query else ""


def _fold(text: str) -> str:
    # Marks go before words are split: "Erdős", decomposed, is one word.
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _last_name(name: str) -> str:
    parts = _LETTERS.findall(_fold(name.partition(",")[0]))
    while len(parts) > 1 and parts[-1] in _NAME_SUFFIXES:
        parts.pop()
    return parts[-1] if parts else ""
