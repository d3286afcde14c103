"""Topics as an admin keeps them."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

from sqlalchemy import Connection, delete, func, select

from digest import schema
from digest.errors import AlreadyExists, NotFound
from digest.models import Topic
from digest.storage.database import insert_ignoring

_COLUMNS = [schema.topic.c[name] for name in ("id", "slug", "name", "query")]


def slug_of(name: str) -> str:
    """A name as it stands in addresses and commands: `World models` becomes `world-models`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60] or "topic"


def add(connection: Connection, name: str, query: str, *, slug: str = "", now: datetime) -> Topic:
    """Store a topic whose filter was parsed before; AlreadyExists."""
    slug = slug or slug_of(name)
    row = (
        connection.execute(
            insert_ignoring(connection, schema.topic)
            .values(slug=slug, name=name, query=query, created_at=now)
            .returning(*_COLUMNS)
        )
        .mappings()
        .first()
    )
    if row is None:
        raise AlreadyExists(f"There is a topic {slug} already. Remove it first, or choose a name.")
    return Topic(**row)


def all_topics(connection: Connection) -> list[Topic]:
    """All topics, by name."""
    table = schema.topic
    rows = connection.execute(select(*_COLUMNS).order_by(func.lower(table.c.name), table.c.id))
    return [Topic(**row) for row in rows.mappings()]


def get(connection: Connection, slug: str) -> Topic:
    """The topic with that slug; NotFound names those that there are."""
    topics = all_topics(connection)
    for topic in topics:
        if topic.slug == slug:
            return topic
    known = ", ".join(topic.slug for topic in topics) or "none yet"
    raise NotFound(f"There is no topic {slug}. Topics: {known}.")


def remove(connection: Connection, slug: str) -> int:
    """Delete a topic; how many subscribers followed it."""
    topic = get(connection, slug)
    follow = schema.follow
    followers = connection.execute(delete(follow).where(follow.c.topic_id == topic.id)).rowcount
    connection.execute(delete(schema.topic).where(schema.topic.c.id == topic.id))
    return followers


def followed_by(connection: Connection, subscriber_id: int) -> list[Topic]:
    """The topics that a subscriber follows, in order of slug."""
    topic, follow = schema.topic, schema.follow
    rows = connection.execute(
        select(*_COLUMNS)
        .join(follow, follow.c.topic_id == topic.c.id)
        .where(follow.c.subscriber_id == subscriber_id)
        .order_by(topic.c.slug)
    ).mappings()
    return [Topic(**row) for row in rows]
