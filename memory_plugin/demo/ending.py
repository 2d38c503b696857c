"""How the demo ends: a look into the database, what to try next, and a tidy server."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from memory_plugin.demo import inside
from memory_plugin.demo.documents import checkout
from memory_plugin.demo.show import Show
from memory_plugin.demo.stage import COLLECTION, Stage


async def look_inside(stage: Stage) -> None:
    """Count rows, and run the query that a person can run too."""
    show, database = stage.show, stage.memory.database
    with show.step("What is in the database"):
        counts = await inside.count_rows(database, stage.tenant)
        show.table(inside.rows_table(counts))
        statement = inside.conversation_sql(database.schema, stage.tenant, stage.user_id)
        file = stage.options.directory / "conversation.sql"
        file.write_text(statement, encoding="utf-8")
        show.console.print()
        show.command(inside.psql_command(database.url, file))
        show.code(statement.rstrip(), "sql")
        rows = await database.fetch(statement)
        show.check(rows, f"{len(rows)} rows:", "The query found no message of a conversation with an approved refund.")
        show.table(inside.result_table(rows, at_most=6))


async def erase(stage: Stage) -> None:
    """Leave nothing on a server that is not the demo's own."""
    memory, show = stage.memory, stage.show
    with show.step("Tidying up"):
        counts = await memory.forget(user_id=stage.user_id, hard=True)
        for table, rows in (await memory.references.remove_collection(COLLECTION)).items():
            counts[table] = counts.get(table, 0) + rows
        left = await inside.count_rows(memory.database, stage.tenant)
        erased = ", ".join(f"{rows} {table}" for table, rows in counts.items() if rows)
        show.check(
            not any(left.values()),
            f"Erased, because it is your server (--keep would leave it there): {erased}.",
            f"Some of the demo's rows are still there: {left}.",
        )


def what_next(stage: Stage) -> None:
    """Three things to try, as commands that work as they stand."""
    show, url, keep = stage.show, stage.options.url, stage.options.keep
    folder = stage.options.directory / "postgres"
    if url is None:
        place, variable = f"--data-dir {inside.near(folder)}", f"MEMORY_DATA_DIR={folder}"
    else:
        shown = inside.without_password(url)
        place, variable = f"--url '{shown}'", f"MEMORY_DATABASE_URL='{shown}'"
    show.line("Try next:")
    if url is None and not keep:
        show.command("memory-plugin demo --keep    # the database stays up at the end, for psql and other clients")
    if url is None or keep:
        whose = f"--tenant {stage.tenant} recall 'Who takes my parcels?' --user {stage.user_id}"
        show.command(f"memory-plugin {place} {whose}")
        whose = f"--env MEMORY_TENANT={stage.tenant} --env MEMORY_USER_ID={stage.user_id}"
        show.command(f"claude mcp add ada --env {variable} {whose} -- memory-mcp")
    else:
        show.command(f"claude mcp add memory --env {variable} -- memory-mcp")
    root = checkout()
    if root is not None:
        show.command(f"jupyter lab {inside.near(root / 'examples')}    # notebooks, and programs beside them")


async def stay(show: Show) -> None:
    """Wait for Ctrl-C or the end by a supervisor, the database being up meanwhile."""
    if not show.console.is_interactive:
        show.line("This is no terminal, so the database is not kept up.", "yellow")
        return
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # on Windows Ctrl-C ends the program by itself
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stop.set)
    show.line("The database stays up until you press Ctrl-C.", "bold")
    await stop.wait()
