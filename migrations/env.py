"""The alembic environment of the store.

Called three ways: by the library with a connection in `config.attributes`, by `alembic upgrade
head` in a checkout (the database comes from MEMORY_DATABASE_URL, or is the embedded one), and by
a team's own alembic that has this folder as a script location.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from memory_plugin.db.database import quote_schema
from memory_plugin.db.migrate import MIGRATION_LOCK, VERSION_TABLE
from memory_plugin.settings import get_settings

config = context.config
schema: str = config.attributes.get("schema") or get_settings().db_schema
quoted = quote_schema(schema)

# where pgvector lives when somebody put it outside of the search path
_FIND_EXTENSION = """
SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""


def run_offline() -> None:
    """Write the statements instead of running them."""
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},  # with others a percent sign is printed twice
        as_sql=True,
        version_table=VERSION_TABLE,
        version_table_schema=schema,
    )
    with context.begin_transaction():
        context.execute("CREATE EXTENSION IF NOT EXISTS vector")
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        context.execute(f"SET LOCAL search_path TO {quoted}, public")
        context.run_migrations()


def run_on(connection: Connection) -> None:
    """Migrate on a connection whose transaction the caller owns."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    place = connection.execute(text(_FIND_EXTENSION)).scalar()
    if place is None:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        place = connection.execute(text(_FIND_EXTENSION)).scalar()
    exists = connection.execute(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": quoted}).scalar()
    if not exists:
        connection.execute(text(f"CREATE SCHEMA {quoted}"))
    connection.execute(text(f"SET LOCAL search_path TO {quoted}, {place}, public"))
    context.configure(
        connection=connection,
        version_table=VERSION_TABLE,
        version_table_schema=schema,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_alone() -> None:
    """Migrate the database of the environment, as `alembic upgrade head` asks."""
    from memory_plugin.db.connect import open_database

    async with open_database(schema=schema) as database:
        engine = database.engine.execution_options(isolation_level="READ COMMITTED", schema_translate_map={})
        async with engine.begin() as connection:
            await connection.run_sync(run_on)


if context.is_offline_mode():
    run_offline()
elif (given := config.attributes.get("connection")) is not None:
    run_on(given)
else:
    asyncio.run(run_alone())
