"""Tables for who has none yet: columns that every supported database keeps without loss.

Names and ids are compared by code point, so that two users whose names differ in case alone stay
two; texts and times are wide enough that nothing is cut.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from memory_plugin.validation import MAX_IDENTIFIER

_EXACT = "utf8mb4_bin"
_OPTIONS: Any = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}


def _name(length: int) -> TypeEngine[Any]:
    return String(length).with_variant(mysql.VARCHAR(length, collation=_EXACT), "mysql", "mariadb")


def _text() -> TypeEngine[Any]:
    return Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), "mysql", "mariadb")


def _time() -> TypeEngine[Any]:
    return DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def messages_table(
    name: str = "messages", metadata: MetaData | None = None, *columns: Column[Any], schema: str | None = None
) -> Table:
    """A table for messages, for `create_tables()` or for the metadata that your migrations are made from.

    Args:
        columns: more columns; each must be nullable or have a default.
    """
    return Table(
        name,
        MetaData() if metadata is None else metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("chat_id", _name(MAX_IDENTIFIER), nullable=False),
        Column("user_id", _name(MAX_IDENTIFIER)),
        Column("role", String(32), nullable=False),
        Column("content", _text(), nullable=False),
        Column("name", String(MAX_IDENTIFIER)),
        Column("message_id", String(MAX_IDENTIFIER)),
        Column("body", JSON()),
        Column("created_at", _time(), nullable=False),
        *columns,
        Index(f"{name}_chat_idx", "chat_id", "id"),
        schema=schema,
        **_OPTIONS,
    )


def working_memory_table(
    name: str = "working_memory", metadata: MetaData | None = None, *columns: Column[Any], schema: str | None = None
) -> Table:
    """A table for working memories: one row per chat or user.

    Args:
        columns: more columns; each must be nullable or have a default.
    """
    return Table(
        name,
        MetaData() if metadata is None else metadata,
        Column("id", _name(MAX_IDENTIFIER + 8), primary_key=True),
        Column("scope", String(8), nullable=False),
        Column("chat_id", _name(MAX_IDENTIFIER)),
        Column("user_id", _name(MAX_IDENTIFIER)),
        Column("content", _text(), nullable=False),
        Column("version", Integer, nullable=False, server_default="1"),
        Column("updated_at", _time(), nullable=False),
        *columns,
        schema=schema,
        **_OPTIONS,
    )
