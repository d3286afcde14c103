"""The delivery engine: leases, routes with their limits and breakers, bounces, gaps, alerts."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
OPEN = "state IN ('planned', 'deferred')"


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(
        name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition
    )


def upgrade() -> None:
    op.create_table(
        "route",
        sa.Column("id", ID, nullable=False),
        sa.Column("relay", sa.String(length=255), nullable=False),
        sa.Column("provider", sa.String(length=255), nullable=False),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("rate_changed_at", INSTANT, nullable=True),
        sa.Column("next_at", INSTANT, nullable=True),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("drawn_today", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("opened_at", INSTANT, nullable=True),
        sa.Column("probe_at", INSTANT, nullable=True),
        sa.Column("probes", sa.SmallInteger(), nullable=False),
        sa.Column("window_from", ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route")),
        sa.UniqueConstraint("relay", "provider", name=op.f("uq_route_relay_provider")),
    )
    op.create_table(
        "bounce",
        sa.Column("delivery_id", ID, nullable=False),
        sa.Column("subscriber_id", ID, nullable=False),
        sa.Column("route_id", ID, nullable=False),
        sa.Column("attempt_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("verdict", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_bounce")),
    )
    op.create_table(
        "domain",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("provider", sa.String(length=255), nullable=False),
        sa.Column("looked_up_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_domain")),
    )
    house = op.create_table(
        "house",
        sa.Column("id", ID, nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("mark", ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_house")),
    )
    op.bulk_insert(house, [{"id": 1, "identity": uuid.uuid4().hex, "mark": 0}])
    op.create_table(
        "gap",
        sa.Column("id", ID, nullable=False),
        sa.Column("start", INSTANT, nullable=False),
        sa.Column("end", INSTANT, nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gap")),
    )
    op.create_table(
        "alert",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("told_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert")),
    )
    _index("uq_alert_open", "alert", ["kind", "subject"], "ended_at IS NULL", unique=True)
    _index("ix_worker_alive", "worker", ["id"], "stopped_at IS NULL")

    with op.batch_alter_table("part") as batch:
        batch.add_column(sa.Column("head", sa.LargeBinary(), nullable=True))

    with op.batch_alter_table("delivery") as batch:
        for name in ("due_at", "state_priority_next_attempt_at", "subscriber_id", "worker_id"):
            batch.drop_index(f"ix_delivery_{name}")
        batch.drop_constraint("uq_delivery_account_mail_id", type_="unique")
        batch.drop_constraint("fk_delivery_worker_id_worker", type_="foreignkey")
        for name in ("losses", "crashes"):
            column = sa.Column(name, sa.SmallInteger(), nullable=False, server_default="0")
            batch.add_column(column)
        batch.add_column(sa.Column("route_id", ID, nullable=True))
        batch.add_column(sa.Column("started_at", INSTANT, nullable=True))
    with op.batch_alter_table("delivery") as batch:
        for name in ("losses", "crashes"):
            batch.alter_column(name, server_default=None)
    _index("ix_delivery_open", "delivery", ["provider", "priority", "next_attempt_at"], OPEN)
    _index("ix_delivery_account", "delivery", ["next_attempt_at"], f"priority = 0 AND {OPEN}")
    _index("ix_delivery_held", "delivery", ["worker_id"], "state IN ('claimed', 'sending')")
    _index("ix_delivery_bad", "delivery", ["due_at"], "state IN ('failed', 'unknown')")
    _index(
        "uq_delivery_account_mail_id",
        "delivery",
        ["account_mail_id"],
        "account_mail_id IS NOT NULL",
        unique=True,
    )

    _attempts()
    _digests()


def _digests() -> None:
    """What a mail is made of stands apart from why its papers were chosen."""
    with op.batch_alter_table("digest") as batch:
        batch.drop_constraint("fk_digest_skeleton_part", type_="foreignkey")
        batch.add_column(sa.Column("parts", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("account_mail") as batch:
        batch.drop_constraint("fk_account_mail_skeleton_part", type_="foreignkey")
    connection = op.get_bind()
    digest = sa.table(
        "digest", sa.column("id", ID), sa.column("items", sa.JSON()), sa.column("parts", sa.Text())
    )
    last = 0
    while rows := connection.execute(
        sa.select(digest.c.id, digest.c["items"])
        .where(digest.c.id > last)
        .order_by(digest.c.id)
        .limit(1000)
    ).all():
        for row in rows:
            named = {
                flag: [one["part"] for one in row[1] if one["card"] is flag]
                for flag in (True, False)
            }
            parts = "|".join(" ".join(named[flag]) for flag in (True, False)) if row[1] else ""
            connection.execute(sa.update(digest).where(digest.c.id == row[0]).values(parts=parts))
        last = rows[-1][0]
    with op.batch_alter_table("digest") as batch:
        batch.alter_column("parts", server_default=None)


def _attempts() -> None:
    """An attempt is a row when it ended; until then its delivery is it."""
    relays = sa.text(
        "INSERT INTO route (relay, provider, drawn_today, state, reason, kind,"
        " probes, window_from)"
        " SELECT DISTINCT relay, '', 0, 'closed', '', '', 0, 0 FROM attempt"
    )
    op.execute(relays)
    with op.batch_alter_table("attempt") as batch:
        batch.drop_index("ix_attempt_delivery_id")
        batch.drop_constraint("fk_attempt_delivery_id_delivery", type_="foreignkey")
        batch.drop_constraint("fk_attempt_worker_id_worker", type_="foreignkey")
        batch.add_column(sa.Column("route_id", ID, nullable=True))
    op.execute(
        "UPDATE attempt SET route_id = (SELECT route.id FROM route"
        " WHERE route.relay = attempt.relay AND route.provider = '')"
    )
    op.execute(
        "UPDATE delivery SET started_at = (SELECT max(attempt.started_at) FROM attempt"
        " WHERE attempt.delivery_id = delivery.id) WHERE state = 'sending'"
    )
    op.execute("DELETE FROM attempt WHERE outcome = 'sending'")
    with op.batch_alter_table("attempt") as batch:
        batch.drop_column("relay")
        batch.create_index("ix_attempt_route_id_id", ["route_id", "id"])
