"""The role: whether it may do what the store does, and whether the walls between tenants hold for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory_plugin.db.tenancy import APP_ROLE
from memory_plugin.doctor.findings import Diagnosis

if TYPE_CHECKING:
    from memory_plugin.db.database import Record
    from memory_plugin.settings import Settings

_ROLE = """
SELECT current_user AS name, session_user AS login, r.rolsuper AS super, r.rolbypassrls AS bypasses,
       has_schema_privilege(current_user, $1::text::regnamespace, 'USAGE') AS may_look
FROM pg_roles r WHERE r.rolname = current_user
"""

_TABLES = """
SELECT c.relname AS name, pg_has_role(current_user, c.relowner, 'USAGE') AS owned,
       array_remove(ARRAY[CASE WHEN NOT has_table_privilege(current_user, c.oid, 'SELECT') THEN 'SELECT' END,
                          CASE WHEN NOT has_table_privilege(current_user, c.oid, 'INSERT') THEN 'INSERT' END,
                          CASE WHEN NOT has_table_privilege(current_user, c.oid, 'UPDATE') THEN 'UPDATE' END,
                          CASE WHEN NOT has_table_privilege(current_user, c.oid, 'DELETE') THEN 'DELETE' END],
                    NULL)::text[] AS lacks,
       c.relrowsecurity AS walled, c.relforcerowsecurity AS forced,
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid) AS has_policy
FROM pg_class c
WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p') AND c.relname = ANY ($2::text[])
ORDER BY c.relname
"""


async def check_roles(found: Diagnosis, url: str, settings: Settings) -> None:
    """Look at what the role may that a store works as, and at row-level security where the tables have it."""
    from memory_plugin.db.connect import open_database
    from memory_plugin.db.migrate import take_role
    from memory_plugin.db.schema import metadata

    async with open_database(url, settings=settings, tenant=settings.tenant) as database:
        if database.tenant is not None:
            await take_role(database)
        schema = database.sql("{s}")
        role = await database.fetchrow(_ROLE, schema)
        assert role is not None  # whoever asks is a role
        tables = await database.fetch(_TABLES, schema, sorted(metadata.tables))
    before = len(found.checks)
    _check_rights(found, role, tables, settings.db_schema)
    _check_walls(found, role, tables, is_off=settings.row_security == "off")
    if len(found.checks) == before:
        found.add("roles", "ok", _said(role, tables))


def _check_rights(found: Diagnosis, role: Record, tables: list[Record], schema: str) -> None:
    lacking = [table for table in tables if table["lacks"]]
    if not role["may_look"]:
        found.add(
            "roles",
            "error",
            f"The role {role['name']} may not use the schema {schema!r}.",
            f'As the owner of the tables run GRANT USAGE ON SCHEMA "{schema}" TO "{role["name"]}";',
        )
    if lacking:
        wanted = ", ".join(sorted({right for table in lacking for right in table["lacks"]}))
        names = ", ".join(f'"{schema}".{table["name"]}' for table in lacking)
        found.add(
            "roles",
            "error",
            f"The role {role['name']} may not {wanted} in {len(lacking)} of {len(tables)} tables.",
            f'As their owner run GRANT {wanted} ON {names} TO "{role["name"]}";',
        )


def _check_walls(found: Diagnosis, role: Record, tables: list[Record], *, is_off: bool) -> None:
    """Row-level security, once tables have it: on all of them, and for this role."""
    walled = [table for table in tables if table["walled"]]
    if not walled:
        return  # tenants are kept apart by the statements alone
    open_ones = [table["name"] for table in tables if not table["walled"] or not table["has_policy"]]
    if open_ones:
        found.add(
            "roles",
            "error",
            f"Row-level security is off, or has no policy, for {', '.join(open_ones)}.",
            "Run `memory-plugin migrate up` as the owner of the tables; a table added by hand needs a policy too.",
        )
    passes = role["super"] or role["bypasses"] or any(table["owned"] and not table["forced"] for table in walled)
    if passes:
        why = "a superuser" if role["super"] else "told to bypass it" if role["bypasses"] else "the tables' owner"
        found.add(
            "roles",
            "warning",
            f"Row-level security does not hold for {role['name']}, which is {why}.",
            "Unset MEMORY_ROW_SECURITY, or connect as a role that owns nothing and may not bypass it."
            if is_off
            else "Run `memory-plugin migrate secure` as the owner of the tables; if that may not make roles, "
            f'have an administrator run CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO "{role["login"]}"; first.',
        )


def _said(role: Record, tables: list[Record]) -> str:
    what = [
        "a superuser" if role["super"] else None,
        "owner of the tables" if tables and all(table["owned"] for table in tables) else None,
        f"logged in as {role['login']}" if role["login"] != role["name"] else None,
        "under row-level security" if any(table["walled"] for table in tables) else None,
    ]
    known = ", ".join(each for each in what if each)
    return f"{role['name']} may read and write all {len(tables)} tables{f' ({known})' if known else ''}"
