"""A data directory that another major version of PostgreSQL made: what to do about it, in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memory_plugin.errors import EmbeddedDatabaseError

if TYPE_CHECKING:
    from memory_plugin.settings import Settings

__all__ = ["refuse_other_major"]


def refuse_other_major(url: str | None, settings: Settings) -> None:
    """Look at the embedded database's directory before anything is started there.

    Raises:
        EmbeddedDatabaseError: another major version made it; the message names the two commands that bring
            its data over.
    """
    if url is not None or settings.database_url is not None:
        return
    from memory_plugin.db.embedded import default_data_dir
    from memory_plugin.db.embedded_binaries import MAJOR

    data_dir = Path(settings.data_dir) if settings.data_dir is not None else default_data_dir()
    try:
        made_by = (data_dir.expanduser() / "PG_VERSION").read_text("utf-8", "replace").strip()
    except OSError:
        return  # no cluster yet, or none that may be read: who starts the server says what is wrong
    if made_by != MAJOR:
        raise EmbeddedDatabaseError(
            f"{data_dir} was made by PostgreSQL {made_by}, and this installation has PostgreSQL {MAJOR}: run "
            "`memory-plugin backup FILE` with the installation that made it, then `memory-plugin --data-dir "
            "NEW_DIRECTORY restore FILE` with this one."
        )
