"""Links that may be shown: http and https only, absolute."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from digest.sources.bodies import storable


def web_link(text: object, *, base: str = "") -> str:
    """`text` as an absolute http(s) URL, or "" for anything else (javascript:, data:, tag:)."""
    if not isinstance(text, str):
        return ""
    try:
        link = urljoin(base, "".join(storable(text).split()))
        parts = urlsplit(link)
        host = parts.hostname
    except ValueError:  # "http://[", a port that is no number
        return ""
    # A user name before the host is how a link pretends to lead elsewhere.
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        return ""
    return link


def is_code(link: str) -> bool:
    """Whether `link` leads to a code host rather than to a page about the work."""
    return (urlsplit(link).hostname or "").removeprefix("www.") in ("github.com", "gitlab.com")


def arxiv_links(arxiv_id: str) -> dict[str, str]:
    """The places of a paper on arXiv, from its canonical id."""
    links = {
        "abs": f"https://arxiv.org/abs/{arxiv_id}",
        "pdf": f"https://arxiv.org/pdf/{arxiv_id}",
    }
    # arXiv renders submissions as HTML since December 2023; old-style ids sort after a slash.
    if "/" not in arxiv_id and arxiv_id >= "2312":
        links["html"] = f"https://arxiv.org/html/{arxiv_id}"
    return links
