"""Whether the tables of an application can hold what is kept in them, and the statements that make it so."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Column, Connection, Dialect, Index, Inspector, MetaData, String, Table, inspect
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeDecorator, TypeEngine

from memory_plugin.providers.columns import Bound, Meaning, bind, column_name, kind_of
from memory_plugin.providers.definitions import messages_table, working_memory_table
from memory_plugin.providers.message_rows import order_of
from memory_plugin.providers.note_rows import keyed, unique_over

if TYPE_CHECKING:
    from alembic.operations import Operations

ProblemKind = Literal[
    "missing_table", "missing_column", "wrong_type", "missing_index", "required_column", "collation", "too_narrow"
]

_WORDS = {"text": "text", "integer": "a whole number", "uuid": "a UUID", "time": "a date with time", "json": "JSON"}
# pairs of what is declared and what the database says, that work together where columns are less strict
_LOOSE = {("uuid", "text"), ("json", "text"), ("boolean", "integer"), ("uuid", "number")}
_LOOSEST = {*_LOOSE, ("time", "text"), ("text", "number"), ("time", "number")}
_NARROW = {mysql.TINYTEXT: 255, mysql.TEXT: 65_535}


@dataclass(frozen=True, slots=True)
class TableProblem:
    """One thing about a table that does not fit.

    Attributes:
        column: the column, or the columns of an index, with commas; None for the table as a whole.
        ddl: the statements that put it right on this database; empty where there are none to give.
    """

    table: str
    column: str | None
    kind: ProblemKind
    message: str
    ddl: str = ""


@dataclass(frozen=True, slots=True)
class TableReport:
    """What a check found; printing it shows the problems and the statements that solve them."""

    database: str
    tables: Sequence[str]
    problems: Sequence[TableProblem]

    @property
    def ok(self) -> bool:
        """Nothing has to be changed."""
        return not self.problems

    @property
    def ddl(self) -> str:
        """The statements for all problems, in the words of this database."""
        return "\n\n".join(dict.fromkeys(problem.ddl for problem in self.problems if problem.ddl))

    def __str__(self) -> str:
        if self.ok:
            return f"{', '.join(self.tables)} on {self.database}: everything is as it must be."
        lines = [f"{', '.join(self.tables)} on {self.database}:"]
        lines += [f"- {problem.message}" for problem in self.problems]
        return "\n".join([*lines, *(["", self.ddl] if self.ddl else [])])


@dataclass(frozen=True, slots=True)
class Wanted:
    """A table of the provider: how it was given, and what its columns are to mean.

    Attributes:
        table: as the application declares it; None where it gave the name alone.
    """

    name: str
    schema: str | None
    table: Table | None
    meanings: tuple[Meaning, ...]
    chosen: Mapping[str, str | None]
    constants: Mapping[str, Any]
    of_messages: bool

    @property
    def full_name(self) -> str:
        """With the schema in front."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def declared(self) -> Table:
        """The table to make: the application's own, or the usual one under the name that was given."""
        if self.table is not None:
            return self.table
        make = messages_table if self.of_messages else working_memory_table
        return make(self.name, schema=self.schema)


def check(connection: Connection, wanted: Iterable[Wanted]) -> TableReport:
    """Compare the tables with what the provider needs of them."""
    inspector, dialect = inspect(connection), connection.dialect
    problems: list[TableProblem] = []
    names = []
    for each in wanted:
        names.append(each.full_name)
        problems += _Check(inspector, dialect, each).run()
    version = ".".join(str(part) for part in (dialect.server_version_info or ())[:3])
    return TableReport(f"{dialect.name} {version}".strip(), names, problems)


class _Check:
    """Of one table."""

    def __init__(self, inspector: Inspector, dialect: Dialect, wanted: Wanted) -> None:
        self._inspector = inspector
        self._dialect = dialect
        self._wanted = wanted
        self._name = wanted.full_name
        self._real: dict[str, Mapping[str, Any]] = {}
        self._found: list[TableProblem] = []

    def run(self) -> list[TableProblem]:
        """All that does not fit."""
        wanted, inspector = self._wanted, self._inspector
        try:
            columns = inspector.get_columns(wanted.name, schema=wanted.schema)
        except NoSuchTableError:
            columns = []
        if not columns:
            ddl = _table_ddl(wanted.declared(), self._dialect)
            self._problem("missing_table", None, f"The table {self._name} is missing.", ddl)
            return self._found
        self._real = {str(column["name"]): column for column in columns}
        if wanted.table is not None:
            self._as_declared(wanted.table)
            bound = bind(wanted.table, wanted.meanings, wanted.chosen, wanted.constants, lenient=True)
        else:
            shown = Table(wanted.name, MetaData(), *_columns(columns), schema=wanted.schema)
            bound = bind(shown, wanted.meanings, wanted.chosen, wanted.constants, lenient=True)
        self._meanings(bound)
        self._constants()
        self._required(bound)
        self._indexes(bound)
        return self._found

    def _problem(self, kind: ProblemKind, column: str | None, message: str, ddl: str = "") -> None:
        if not any(each.column == column and each.kind == kind for each in self._found):
            self._found.append(TableProblem(self._name, column, kind, message, ddl))

    def _as_declared(self, table: Table) -> None:
        """What the application's own declaration says is there."""
        loose = {"postgresql": set[tuple[str, str]](), "sqlite": _LOOSEST}.get(self._dialect.name, _LOOSE)
        for column in table.columns:
            real = self._real.get(column.name)
            if real is None:
                self._missing(column)
                continue
            declared = kind_of(column.type.dialect_impl(self._dialect)) if _is_plain(column) else kind_of(column.type)
            there = kind_of(real["type"])
            if declared != there and "other" not in {declared, there} and (declared, there) not in loose:
                self._wrong(column, real, f"{self._type(column.type)} is declared")

    def _missing(self, column: Column[Any]) -> None:
        ddl = _alter(self._dialect, lambda op: op.add_column(self._wanted.name, _loose(column), schema=self._schema))
        self._problem("missing_column", column.name, f"{self._name} has no column {column.name}.", ddl)

    @property
    def _schema(self) -> str | None:
        return self._wanted.schema

    def _type(self, type_: TypeEngine[Any]) -> str:
        return type_.compile(self._dialect)

    def _wrong(self, column: Column[Any], real: Mapping[str, Any], needed: str) -> None:
        message = f"{self._name}.{column.name} is {self._type(real['type'])}, and {needed}."
        self._problem("wrong_type", column.name, message, self._change(column.name, column.type, real))

    def _change(self, name: str, type_: TypeEngine[Any], real: Mapping[str, Any]) -> str:
        using = f'"{name}"::{self._type(type_)}' if self._dialect.name == "postgresql" else None
        if self._dialect.name == "sqlite":
            return (
                f"-- SQLite cannot change the type of {self._name}.{name}: make a table with {self._type(type_)} there,"
                " copy the rows, and rename it"
            )
        return _alter(
            self._dialect,
            lambda op: op.alter_column(
                self._wanted.name,
                name,
                type_=type_,
                existing_type=real["type"],
                existing_nullable=bool(real.get("nullable", True)),
                schema=self._schema,
                postgresql_using=using,
            ),
        )

    def _meanings(self, bound: Bound) -> None:
        """The columns that the provider uses."""
        usual = self._usual()
        for meaning in self._wanted.meanings:
            name = column_name(meaning, self._wanted.chosen)
            column = bound.columns.get(meaning.name)
            if column is None:
                if meaning.required or self._wanted.chosen.get(meaning.name):
                    self._missing(Column(name, usual.c[_usual_name(meaning)].type, nullable=not meaning.required))
                continue
            real = self._real.get(column.name)
            if real is None:
                continue  # said already
            if kind_of(column.type) not in meaning.kinds:
                needed = " or ".join(sorted(_WORDS[kind] for kind in meaning.kinds))
                right = Column(column.name, usual.c[_usual_name(meaning)].type)
                self._wrong(right, real, f"the {meaning.name} needs {needed}")
            self._of_mysql(meaning, column, real, usual)
        self._identity(bound, usual)

    def _usual(self) -> Table:
        make = messages_table if self._wanted.of_messages else working_memory_table
        return make(self._wanted.name, schema=self._schema)

    def _identity(self, bound: Bound, usual: Table) -> None:
        """What tells one row from another."""
        if self._wanted.of_messages:
            if "created_at" not in bound and bound.kind("id") != "integer":
                self._missing(Column(self._named("created_at"), usual.c.created_at.type))
        elif not keyed(bound) and ("scope" not in bound or not {"thread_id", "user_id"} & set(bound.columns)):
            self._missing(Column(self._named("id"), usual.c.id.type))

    def _named(self, meaning: str) -> str:
        return column_name(next(each for each in self._wanted.meanings if each.name == meaning), self._wanted.chosen)

    def _of_mysql(self, meaning: Meaning, column: Column[Any], real: Mapping[str, Any], usual: Table) -> None:
        if self._dialect.name not in {"mysql", "mariadb"}:
            return
        type_ = real["type"]
        right = usual.c[_usual_name(meaning)].type
        collation = str(getattr(type_, "collation", None) or self._table_collation())
        if meaning.name in {"id", "thread_id", "user_id"} and isinstance(type_, String):
            if not collation.startswith("utf8mb4") or not collation.endswith("bin"):
                self._problem(
                    "collation",
                    column.name,
                    f"{self._name}.{column.name} has the collation {collation}, in which 'Bob' and 'bob' are one: two "
                    "users could not be told apart by a key; it must be utf8mb4_bin.",
                    self._change(column.name, mysql.VARCHAR(type_.length or 255, collation="utf8mb4_bin"), real),
                )
        elif meaning.name in {"content", "body"} and isinstance(type_, String):
            if not collation.startswith("utf8mb4"):
                wide = mysql.LONGTEXT(charset="utf8mb4")
                message = f"{self._name}.{column.name} is {collation}, which has no emoji and few scripts: use utf8mb4."
                self._problem("collation", column.name, message, self._change(column.name, wide, real))
            size = _NARROW.get(type(type_))
            if size is not None:
                message = f"{self._name}.{column.name} holds {size:,} bytes and cuts or refuses longer texts."
                self._problem("too_narrow", column.name, message, self._change(column.name, right, real))

    def _table_collation(self) -> str:
        options = self._inspector.get_table_options(self._wanted.name, schema=self._schema)
        return str(next((value for key, value in options.items() if key.endswith("_collate")), "utf8mb4"))

    def _constants(self) -> None:
        for name, value in self._wanted.constants.items():
            if name not in self._real:
                message = f"{self._name} has no column {name}, which the constant {value!r} is for."
                self._problem("missing_column", name, message)

    def _required(self, bound: Bound) -> None:
        """Columns that must have a value which nobody gives."""
        given = {column.name for column in bound.columns.values()} | set(self._wanted.constants)
        defaults = {column.name for column in bound.table.columns if column.default is not None}
        for name, real in self._real.items():
            counted = real.get("autoincrement") is True or real.get("identity") or real.get("computed")
            if name in given | defaults or real.get("nullable", True) or real.get("default") is not None or counted:
                continue
            if self._dialect.name == "sqlite" and real.get("primary_key"):
                continue  # an integer key counts by itself
            message = (
                f"{self._name}.{name} must have a value and has no default: give it one, or name it in `constants`"
                f"{' or `extra`' if self._wanted.of_messages else ''}."
            )
            self._problem("required_column", name, message)

    def _indexes(self, bound: Bound) -> None:
        name, schema = self._wanted.name, self._schema
        primary = self._inspector.get_pk_constraint(name, schema=schema)["constrained_columns"]
        indexes = self._inspector.get_indexes(name, schema=schema)
        every = [primary, *([str(each) for each in index["column_names"]] for index in indexes)]
        if self._wanted.of_messages:
            if "thread_id" in bound and bound["thread_id"].name in self._real:
                first = [*bound.constants, bound["thread_id"].name]
                if not any(set(columns[: len(first)]) == set(first) for columns in every):
                    order = order_of(bound) if "created_at" in bound or bound.kind("id") == "integer" else []
                    wanted = list(dict.fromkeys([*first, *(column.name for column in order)]))
                    self._index(bound, [each for each in wanted if each in self._real], unique=False)
            return
        unique = [primary, *([str(each) for each in index["column_names"]] for index in indexes if index["unique"])]
        unique += [list(each["column_names"]) for each in self._inspector.get_unique_constraints(name, schema=schema)]
        for key in unique_over(bound):
            if all(column in self._real for column in key) and not any(set(each) == set(key) for each in unique):
                self._index(bound, key, unique=True)

    def _index(self, bound: Bound, columns: list[str], *, unique: bool) -> None:
        # on columns of their own: the application's table must not get another index by a check
        name, schema = self._wanted.name, self._schema
        copy = Table(name, MetaData(), *(_loose(each) for each in bound.table.columns), schema=schema)
        label = f"{name}_{'_'.join(columns)}_{'key' if unique else 'idx'}"[:60]
        index = Index(label, *(copy.c[each] for each in columns), unique=unique)
        ddl = f"{CreateIndex(index).compile(dialect=self._dialect)};"
        kind, why = ("index", "by which a chat is found")
        if unique:
            kind, why = ("unique index", "by which two who write at once make one row")
        message = f"{self._name} has no {kind} over ({', '.join(columns)}), {why}."
        self._problem("missing_index", ", ".join(columns), message, ddl)


def _usual_name(meaning: Meaning) -> str:
    return meaning.names[0]


def _is_plain(column: Column[Any]) -> bool:
    return not isinstance(column.type, TypeDecorator)


def _loose(column: Column[Any]) -> Column[Any]:
    """The column by itself: without its table, its keys and its indexes."""
    return Column(column.name, column.type, nullable=column.nullable, server_default=column.server_default)


def _columns(real: Iterable[Mapping[str, Any]]) -> list[Column[Any]]:
    return [Column(str(column["name"]), column["type"], nullable=bool(column.get("nullable", True))) for column in real]


def _table_ddl(table: Table, dialect: Dialect) -> str:
    statements = [str(CreateTable(table).compile(dialect=dialect)).strip() + ";"]
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    statements += [f"{CreateIndex(index).compile(dialect=dialect)};" for index in indexes]
    return "\n".join(statements)


def _alter(dialect: Dialect, build: Callable[[Operations], None]) -> str:
    """The statements of a change as this database writes them."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    written = io.StringIO()
    context = MigrationContext.configure(dialect=dialect, opts={"as_sql": True, "output_buffer": written})
    build(Operations(context))
    return written.getvalue().strip()


def make(connection: Connection, wanted: Iterable[Wanted]) -> list[str]:
    """Make the tables that are missing; their names."""
    inspector = inspect(connection)
    made = []
    for each in wanted:
        if not inspector.has_table(each.name, schema=each.schema):
            each.declared().create(connection)
            made.append(each.full_name)
    return made
