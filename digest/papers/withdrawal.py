"""Whether arXiv's words about a paper say that it was withdrawn.

arXiv has no field for it: authors and administrators write it into the comment or put it in the
abstract's place, so only a clause about the paper itself counts, not one about withdrawal.
"""

from __future__ import annotations

import re

_WORK = r"(?:paper|submissions?|article|manuscript|preprint|work|note|draft|version)"
_SAYS = r"(?:(?:has been|have been|is|was|is being) )?(?:hereby |now |temporarily )?withdrawn\b"
_ADMIN = r"(?:arxiv admin note: ?)?"
_GAP = r"\W{0,20}"  # without a bound, a line of ten thousand dots took seconds

_OPENING = re.compile(
    rf"^\W*{_ADMIN}(?:(?:this|the)(?: following| present)? )?{_WORK} {_SAYS}"
    r"|^\W*withdrawn(?= by\b| for\b| due\b| because\b| since\b| as\b|\W*$|[.,:;])",
    re.IGNORECASE,
)
_LATER = re.compile(rf"[.;:\])] ?{_ADMIN}this {_WORK} {_SAYS}", re.IGNORECASE)
_COMMENT = re.compile(
    rf"(?:^|[.;:,\])(-]){_GAP}{_ADMIN}(?:(?:(?:this|the)(?: present)? )?{_WORK} {_SAYS}"
    r"|withdrawn(?= by\b| for\b| due\b| because\b| since\b| as\b|\W*$|[.,:;]))",
    re.IGNORECASE,
)


def is_withdrawn(*, comment: str, abstract: str) -> bool:
    """Whether either text says that this paper is withdrawn.

    A withdrawal that only the abstract page knows of stays unseen (arXiv:2607.19319v2).
    """
    return bool(_OPENING.search(abstract) or _LATER.search(abstract) or _COMMENT.search(comment))
