"""Does everything work: configuration, versions, schema, indexes, backlog, bloat, retention, roles, the embedder.

Looks only: nothing is written, and no schema is made. The embedded database is started, as any use
of the store would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from memory_plugin.doctor.configuration import check_variables, read_settings, shown
from memory_plugin.doctor.contents import MOST_COUNTED, check_contents
from memory_plugin.doctor.embedder import check_embedders, embedders_of
from memory_plugin.doctor.findings import Check, Diagnosis, Setting, Status
from memory_plugin.doctor.indexes import check_indexes
from memory_plugin.doctor.retention import check_retention
from memory_plugin.doctor.roles import check_roles
from memory_plugin.doctor.server import check_server, check_version, opened
from memory_plugin.doctor.tables import check_tables
from memory_plugin.errors import ConfigurationError, MemoryPluginError

if TYPE_CHECKING:
    from memory_plugin.settings import Settings

__all__ = [
    "MOST_COUNTED",
    "Check",
    "Diagnosis",
    "Setting",
    "Status",
    "diagnose",
    "misconfigured",
    "read_settings",
    "shown",
]


def misconfigured(error: ConfigurationError) -> Diagnosis:
    """The diagnosis where the settings cannot even be read."""
    found = Diagnosis()
    found.add("settings", "error", str(error))
    return found


async def diagnose(settings: Settings, *, given: Mapping[str, str] | None = None) -> Diagnosis:
    """Look at everything; what fails is noted and never raised.

    Args:
        given: by field of the settings, the option that set it; the rest is from the environment.
    """
    found = Diagnosis(settings=read_settings(settings, given or {}))
    check_version(found)
    check_variables(found)
    embedders, problem = embedders_of(settings)
    try:
        async with opened(found, settings) as database:
            if await check_server(found, database):
                await check_contents(found, database, settings, embedders)
                await check_indexes(found, database)
                await check_tables(found, database)
                await check_retention(found, database, settings)
                await check_roles(found, database.url, settings)
    except MemoryPluginError as error:
        found.add("database", "error", str(error))
    if problem is not None:
        found.add(
            "embedder",
            "error",
            str(problem),
            "Correct MEMORY_EMBEDDINGS and MEMORY_DOCUMENT_EMBEDDINGS, or set them to none.",
        )
    else:
        await check_embedders(found, embedders, settings)
    return found
