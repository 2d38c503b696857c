"""What every store can do with all it holds: give it away as records, and take such records in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.db.database import Database
    from memory_plugin.portable import ImportReport


class Carried(ABC):
    """A store whose rows are carried to another store and back."""

    database: Database
    tenant: str

    @abstractmethod
    def kick(self) -> None:
        """Tell the background indexer that something was written."""

    def export(
        self, *, user_id: str | None = None, checkpoints: bool = False, after: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Everything of a user, or of the whole tenant, as records of plain JSON, in a fixed order.

        The first is a header, the last says that it is the end; what they hold is in
        docs/reference/export.md. What is read is the store at one moment.

        Args:
            user_id: whose; None takes everything of the tenant.
            checkpoints: with the states of agents. Without, conversations are carried as history shows them.
            after: the last record that was received from an export that broke off: go on behind it.

        Raises:
            InvalidInputError: `after` is no record of such an export.
        """
        from memory_plugin.portable import export_records

        return export_records(self.database, self.tenant, user_id=user_id, checkpoints=checkpoints, after=after)

    async def import_records(
        self,
        records: AsyncIterable[Any] | Iterable[Any],
        *,
        user_id: str | None = None,
        on_progress: Callable[[ImportReport], None] | None = None,
    ) -> ImportReport:
        """Store the records of an export under their own ids; what is here already stays as it is.

        A record that cannot be stored is in the report, by its place in the stream, and the rest goes
        in. What was broken off is simply imported again.

        Args:
            records: of an export, its header first.
            user_id: another user to give everything to; the export must be of one user.
            on_progress: called after each batch.

        Raises:
            InvalidInputError: the first record is no header, or of a version that is not known here.
        """
        from memory_plugin.portable import import_records

        report = await import_records(self.database, self.tenant, records, user_id=user_id, on_progress=on_progress)
        self.kick()
        return report
