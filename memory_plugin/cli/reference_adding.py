"""What `references add` shows and works with beside the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from memory_plugin.cli.output import Output, clipped, counted, visible
from memory_plugin.errors import NotFoundError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from memory_plugin.capabilities.references import Outcome, Progress
    from memory_plugin.core import MemoryCore

OUTCOMES: tuple[Outcome, ...] = ("added", "updated", "unchanged", "failed")
ENOUGH_FILES = 50
"""Files for which processes are started: each takes about a second to start."""

_NAMED = 5
"""Missing files that are named."""


@dataclass(slots=True)
class Adding:
    """A run: the files that are done, and the documents whose files are not there any more."""

    files: list[Progress] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    removed: int | None = None

    @property
    def has_failed(self) -> bool:
        """Whether a file could not be added."""
        return any(file.status == "failed" for file in self.files)

    async def look_for_missing(
        self, core: MemoryCore, paths: Sequence[str], *, collection: str, user_id: str | None, remove: bool
    ) -> None:
        """Find the documents of files that left the folders that were named, and remove them where that was asked for.

        A folder without any document says nothing: it may be a disk that is not there.
        """
        there = [Path(file.name) for file in self.files if file.status != "failed"]
        folders = [
            path for path in map(Path, paths) if path.is_dir() and any(file.is_relative_to(path) for file in there)
        ]
        found = await core.references.missing(folders, collection=collection, user_id=user_id) if folders else []
        self.missing = [document.source for document in found]
        if remove:
            for document in found:
                with suppress(NotFoundError):  # somebody else was faster
                    await core.references.remove(document.id)
            self.removed = len(found)

    def show(self, output: Output, *, is_interrupted: bool = False) -> None:
        """Print what became of the files."""
        outcomes = Counter(file.status for file in self.files)
        counts: dict[str, int] = {status: outcomes[status] for status in OUTCOMES}
        if self.removed is not None:
            counts["removed"] = self.removed
        about = [
            {"name": file.name, "status": file.status, "reason": file.reason, "notices": file.notices}
            for file in self.files
        ]
        document = {**counts, "interrupted": is_interrupted, "missing": self.missing, "files": about}
        output.result(document, lambda: self._print(output, counts, is_interrupted))

    def _print(self, output: Output, counts: dict[str, int], is_interrupted: bool) -> None:
        output.line(", ".join(f"{number:,} {status}" for status, number in counts.items()))
        for file in self.files:
            if file.reason is not None:
                output.line(f"failed: {file.name}: {file.reason}")
            for notice in file.notices:
                output.line(f"note: {file.name}: {notice}")
        if self.missing:
            named = ", ".join(self.missing[:_NAMED]) + (", ..." if len(self.missing) > _NAMED else "")
            files = counted(len(self.missing), "stored file")
            became = "--remove-missing removes them" if self.removed is None else "removed"
            output.line(f"note: {files} not in the folder any more, {became}: {named}")
        if is_interrupted:
            output.warn("interrupted. The same command goes on where it stopped.")


def processes(paths: Sequence[str], workers: int) -> AbstractContextManager[Executor | None]:
    """Processes to read files in, where there are enough files for their start to pay; else none."""
    from memory_plugin.capabilities.reference_files import find_files
    from memory_plugin.parsers import EXTENSIONS

    if workers == 1 or len(find_files(paths, EXTENSIONS).files) < ENOUGH_FILES:
        return nullcontext()
    from memory_plugin.cli.processes import reading_processes

    return reading_processes(workers)


@contextmanager
def progress(output: Output, files: list[Progress]) -> Iterator[Callable[[Progress], None]]:
    """Notes each file that is done in `files`, and shows a bar where a person watches."""
    if not output.shows_progress:
        yield files.append
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), MofNCompleteColumn()
    with Bar(*columns, console=output.aside, transient=True) as bar:
        task = bar.add_task("Reading", total=None)

        def on_progress(file: Progress) -> None:
            files.append(file)
            bar.update(task, total=file.total, completed=file.done, description=clipped(visible(file.name), 40))

        yield on_progress
