"""Settings of agents (prompts, models, limits ...) with who set them, when and why.

A setting has a name and a scope. What is active for a call is the most specific value there is:
thread before user before agent before tenant. Nothing is overwritten: each change is a version, a
roll-back is a new version with an old value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from memory_plugin.capabilities import agent_settings_sql as sql
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import ConflictError, InvalidInputError, NotFoundError, UnsupportedError
from memory_plugin.jsonable import dumps_exact, loads_exact
from memory_plugin.types import AgentSettings, SettingsScope
from memory_plugin.validation import clean_text, identifier, moment, optional_identifier, positive_limit

ATTEMPTS = 100
"""How often a write is tried while others set the same name; each round one of them gets through."""

_SCOPES: tuple[SettingsScope, ...] = get_args(SettingsScope)
_MAX_VERSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One difference between two versions of a value.

    `path` leads through the keys of nested objects, `()` is the value itself. `before` is None
    where something was added, `after` where it was removed.
    """

    path: tuple[str, ...]
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


class AgentSettingsStore:
    """Reads and writes the settings of agents.

    In every method `scope_id` names the agent, user or thread of the scope; the tenant's own
    settings have none.
    """

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._set = database.sql(sql.SET % sql.GIVEN_VALUE)
        self._roll_back = database.sql(sql.SET % sql.OLD_VALUE)
        self._active = database.sql(sql.ACTIVE)
        self._history = database.sql(sql.HISTORY)
        self._current = database.sql(sql.CURRENT)
        self._at = database.sql(sql.AT)
        self._of_answer = database.sql(sql.OF_ANSWER)
        self._versions = database.sql(sql.VERSIONS)
        self._delete = database.sql(sql.DELETE)

    async def set(
        self,
        name: str,
        value: Any,
        *,
        scope: SettingsScope = "tenant",
        scope_id: str = "",
        set_by: str | None = None,
        reason: str | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> AgentSettings:
        """Make `value` the current one; the value that is current already makes no version.

        Args:
            value: anything JSON can hold; it comes back equal and of the same types, tuples as lists.
            schema: a JSON Schema the value must fit.

        Raises:
            InvalidInputError: a wrong scope, an empty name, a value JSON cannot hold or that does
                not fit the schema, or a schema that is none.
            UnsupportedError: a schema was given and `jsonschema` is not installed.
            ConflictError: others kept setting the same name all the time.
        """
        key = _key(name, scope, scope_id)
        text = dumps_exact(value, tuples=True)
        if text is None:
            raise InvalidInputError(
                f"The value of setting {name!r} cannot be kept as JSON: use text, numbers, booleans, None, "
                "lists, and dicts with text keys, not nested too deep."
            )
        if schema is not None:
            _check_schema(name, value, schema)
        row = await self._write(self._set, key, text, set_by, reason)
        assert row is not None  # a given value is always there
        return _setting(row)

    async def active(
        self,
        name: str,
        *,
        agent_id: str | None = None,
        user_id: str | None = None,
        thread_id: str | None = None,
        at: datetime | None = None,
    ) -> AgentSettings | None:
        """The most specific current value: thread, then user, then agent, then tenant; None if there is none.

        Args:
            at: the value that counted at this time (a naive one is UTC), in place of now.

        Raises:
            InvalidInputError: an empty name or id, or `at` is no datetime.
        """
        rows = await self._candidates(name, agent_id, user_id, thread_id, at, limit=1)
        return _setting(rows[0]) if rows else None

    async def merged(
        self,
        name: str,
        *,
        agent_id: str | None = None,
        user_id: str | None = None,
        thread_id: str | None = None,
        at: datetime | None = None,
    ) -> Any:
        """The values of all scopes laid over each other, the most specific on top; None if there is none.

        Objects are merged key by key at the outermost level; any other value hides all below it.

        Args:
            at: what counted at this time (a naive one is UTC), in place of now.

        Raises:
            InvalidInputError: an empty name or id, or `at` is no datetime.
        """
        result: Any = None
        for row in reversed(await self._candidates(name, agent_id, user_id, thread_id, at, limit=len(_SCOPES))):
            value = loads_exact(row["value"])
            result = {**result, **value} if isinstance(result, dict) and isinstance(value, dict) else value
        return result

    async def history(
        self, name: str, *, scope: SettingsScope = "tenant", scope_id: str = "", limit: int = 20
    ) -> list[AgentSettings]:
        """The latest versions, newest first; none while nothing was set.

        Raises:
            InvalidInputError: a wrong scope or an empty name.
        """
        key = _key(name, scope, scope_id)
        rows = await self._database.fetch(self._history, self._tenant, *key, positive_limit(limit), repeat=Repeat.READ)
        return [_setting(row) for row in rows]

    async def current(
        self, *, scope: SettingsScope = "tenant", scope_id: str = "", limit: int = 100
    ) -> list[AgentSettings]:
        """The current value of every setting of one scope, by name; those of wider scopes are not among them.

        Raises:
            InvalidInputError: a wrong scope.
        """
        scope, scope_id = _checked_scope(scope, scope_id)
        count = positive_limit(limit)
        rows = await self._database.fetch(self._current, self._tenant, scope, scope_id, count, repeat=Repeat.READ)
        return [_setting(row) for row in rows]

    async def at(
        self, name: str, when: datetime, *, scope: SettingsScope = "tenant", scope_id: str = ""
    ) -> AgentSettings | None:
        """The version that was current at a time (a naive one is UTC); None before the first.

        Raises:
            InvalidInputError: a wrong scope, an empty name, or `when` is no datetime.
        """
        key = _key(name, scope, scope_id)
        if when is None:
            raise InvalidInputError("when is missing: give the time to look at.")
        row = await self._database.fetchrow(self._at, self._tenant, *key, moment(when, "when"), repeat=Repeat.READ)
        return _setting(row) if row is not None else None

    async def of_answer(
        self,
        name: str,
        thread_id: str,
        *,
        turn: int | None = None,
        message_id: str | None = None,
        agent_id: str | None = None,
    ) -> AgentSettings | None:
        """The version that an answer was given with; None if there was none.

        An answer that came through the middleware names its versions; of any other the time it was
        stored, its thread and the user of its conversation say which counted.

        Args:
            turn: the last answer of this turn, from 1; without it and `message_id` the last of all.
            message_id: the id of one message, its own or the store's.
            agent_id: whose settings counted, where the answer does not say it.

        Raises:
            NotFoundError: there is no such message.
            InvalidInputError: an empty name or id.
        """
        thread = identifier(thread_id, "thread_id")
        row = await self._database.fetchrow(
            self._of_answer,
            self._tenant,
            identifier(name, "name"),
            thread,
            None if turn is None else positive_limit(turn, "turn", maximum=_MAX_VERSION),
            optional_identifier(message_id, "message_id"),
            optional_identifier(agent_id, "agent_id"),
            repeat=Repeat.READ,
        )
        if row is None:
            raise NotFoundError(f"The conversation {thread!r} has no such message: its turns show what it has.")
        return None if row["version"] is None else _setting(row)

    async def roll_back(
        self,
        name: str,
        to_version: int,
        *,
        scope: SettingsScope = "tenant",
        scope_id: str = "",
        set_by: str | None = None,
        reason: str | None = None,
    ) -> AgentSettings:
        """Make the value of an earlier version current again, as a new version.

        Where that value is current already, nothing is written.

        Raises:
            NotFoundError: there is no such version.
            InvalidInputError: a wrong scope or an empty name.
            ConflictError: others kept setting the same name all the time.
        """
        key = _key(name, scope, scope_id)
        number = positive_limit(to_version, "to_version", maximum=_MAX_VERSION)
        row = await self._write(self._roll_back, key, number, set_by, reason)
        if row is None:
            raise _no_version(name, scope, scope_id, number)
        return _setting(row)

    async def compare(
        self, name: str, before: int, after: int, *, scope: SettingsScope = "tenant", scope_id: str = ""
    ) -> list[SettingChange]:
        """What changed from one version to another, key by key, in the order of the paths.

        Raises:
            NotFoundError: one of the versions does not exist.
            InvalidInputError: a wrong scope or an empty name.
        """
        key = _key(name, scope, scope_id)
        wanted = [positive_limit(number, "version", maximum=_MAX_VERSION) for number in (before, after)]
        rows = await self._database.fetch(self._versions, self._tenant, *key, *wanted, repeat=Repeat.READ)
        values = {row["version"]: loads_exact(row["value"]) for row in rows}
        for number in wanted:
            if number not in values:
                raise _no_version(name, scope, scope_id, number)
        return sorted(_changes((), *(values[number] for number in wanted)), key=lambda change: change.path)

    async def delete(
        self, name: str | None = None, *, scope: SettingsScope = "tenant", scope_id: str = ""
    ) -> dict[str, int]:
        """Erase a setting of a scope with its history, so that the wider scope counts again.

        Without a name all settings of the scope go. The answer is the rows erased, by table.

        Raises:
            InvalidInputError: a wrong scope, or an empty name.
        """
        scope, scope_id = _checked_scope(scope, scope_id)
        wanted = None if name is None else identifier(name, "name")
        count: int = await self._database.fetchval(
            self._delete, self._tenant, scope, scope_id, wanted, repeat=Repeat.IDEMPOTENT
        )
        return {"agent_settings": count}

    async def _write(
        self,
        statement: str,
        key: tuple[str, str, str],
        value: str | int,
        set_by: str | None,
        reason: str | None,
    ) -> Record | None:
        """The version that holds the value now; None when the value to be taken does not exist."""
        who = None if set_by is None else identifier(set_by, "set_by")
        why = None if reason is None else clean_text(reason, "reason")
        for _ in range(ATTEMPTS):
            row = await self._database.fetchrow(
                statement, self._tenant, *key, value, who, why, repeat=Repeat.IDEMPOTENT
            )
            # roll_back: `done` is NULL when the setting exists and the version asked for does not
            if row is not None and row["done"]:
                return row
            if isinstance(value, int) and (row is None or row["done"] is None):
                return None
        raise ConflictError(f"Setting {key[2]!r} is being set all the time: try again later.")

    async def _candidates(
        self,
        name: str,
        agent_id: str | None,
        user_id: str | None,
        thread_id: str | None,
        at: datetime | None,
        *,
        limit: int,
    ) -> list[Record]:
        given = {"thread": thread_id, "user": user_id, "agent": agent_id}
        scopes = [(scope, identifier(value, f"{scope}_id")) for scope, value in given.items() if value is not None]
        scopes.append(("tenant", ""))
        return await self._database.fetch(
            self._active,
            self._tenant,
            identifier(name, "name"),
            [scope for scope, _ in scopes],
            [scope_id for _, scope_id in scopes],
            limit,
            moment(at, "at"),
            repeat=Repeat.READ,
        )


def _key(name: str, scope: SettingsScope, scope_id: str) -> tuple[SettingsScope, str, str]:
    return *_checked_scope(scope, scope_id), identifier(name, "name")


def _checked_scope(scope: SettingsScope, scope_id: str) -> tuple[SettingsScope, str]:
    if scope not in _SCOPES:
        raise InvalidInputError(f"{scope!r} is not a scope of settings: use one of {', '.join(_SCOPES)}.")
    if scope != "tenant":
        return scope, identifier(scope_id, "scope_id")
    if scope_id not in {"", None}:
        raise InvalidInputError("The settings of the tenant have no scope_id: leave it out, or name another scope.")
    return scope, ""


def _check_schema(name: str, value: Any, schema: Mapping[str, Any]) -> None:
    try:
        from jsonschema import SchemaError, ValidationError, validators
        from jsonschema.exceptions import best_match
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError as error:
        raise UnsupportedError(
            "Checking a setting against a schema needs the package jsonschema: pip install jsonschema."
        ) from error
    rules = dict(schema)
    try:
        checker = validators.validator_for(rules)
        checker.check_schema(rules)
        # the empty registry keeps a $ref from being fetched from anywhere
        problem: ValidationError | None = best_match(checker(rules, registry=Registry()).iter_errors(value))
    except (SchemaError, Unresolvable) as error:
        raise InvalidInputError(f"The schema of setting {name!r} cannot be used: {_first_line(error)}.") from error
    if problem is not None:
        where = "/".join(str(part) for part in problem.absolute_path) or "the value itself"
        raise InvalidInputError(f"Setting {name!r} does not fit its schema at {where}: {_first_line(problem)}.")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _no_version(name: str, scope: str, scope_id: str, version: int) -> NotFoundError:
    owner = f"{scope} {scope_id!r}" if scope_id else f"the {scope}"
    return NotFoundError(f"Setting {name!r} of {owner} has no version {version}: see its history for those it has.")


def _changes(path: tuple[str, ...], before: Any, after: Any) -> list[SettingChange]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        # 1, 1.0 and True are equal in Python, and three different settings
        same = type(before) is type(after) and dumps_exact(before) == dumps_exact(after)
        return [] if same else [SettingChange(path, "changed", before, after)]
    found = [SettingChange((*path, key), "removed", before=before[key]) for key in before.keys() - after.keys()]
    found += [SettingChange((*path, key), "added", after=after[key]) for key in after.keys() - before.keys()]
    for key in before.keys() & after.keys():
        found += _changes((*path, key), before[key], after[key])
    return found


def _setting(row: Record) -> AgentSettings:
    return AgentSettings(
        scope=row["scope"],
        scope_id=row["scope_id"],
        name=row["name"],
        version=row["version"],
        value=loads_exact(row["value"]),
        valid_from=row["valid_from"],
        set_by=row["set_by"],
        reason=row["reason"],
    )
