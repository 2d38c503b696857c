"""What the options before a command say, and how a command reaches the store with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import typer

from memory_plugin.cli.output import Output
from memory_plugin.errors import ConfigurationError, MemoryPluginError

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.settings import Settings

T = TypeVar("T")

# typer's releases keep this class in different places and export only the one below it
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""The command line cannot be understood; the exit code is 2."""


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command line: which store it means, and where its words go.

    None leaves a choice to the environment.
    """

    url: str | None = None
    schema: str | None = None
    tenant: str | None = None
    data_dir: Path | None = None
    output: Output = field(default_factory=Output)

    def given(self) -> dict[str, str]:
        """The settings that options gave, with the option of each."""
        options = {
            "database_url": ("--url", self.url),
            "db_schema": ("--schema", self.schema),
            "tenant": ("--tenant", self.tenant),
            "data_dir": ("--data-dir", self.data_dir),
        }
        return {setting: option for setting, (option, value) in options.items() if value is not None}

    def settings(self) -> Settings:
        """The settings of the environment with the options over them.

        `--data-dir` asks for the embedded database, whatever URL the environment names.

        Raises:
            ConfigurationError: a variable of the environment has a value that cannot work.
        """
        from pydantic import SecretStr, ValidationError

        from memory_plugin.settings import get_settings

        try:
            base = get_settings()
        except ValidationError as error:
            raise ConfigurationError(_sentence(error)) from error
        changes: dict[str, Any] = {}
        if self.url is not None:
            changes["database_url"] = SecretStr(self.url)
        if self.schema is not None:
            changes["db_schema"] = self.schema
        if self.tenant is not None:
            changes["tenant"] = self.tenant
        if self.data_dir is not None:
            changes |= {"data_dir": self.data_dir, "database_url": None}
        return base.model_copy(update=changes)

    def run(self, work: Callable[[MemoryCore], Awaitable[T]]) -> T:
        """Open the store, do the work, close it; Ctrl-C closes it too.

        Raises:
            MemoryPluginError: the store cannot be opened, or the work failed.
        """

        async def opened() -> T:
            from memory_plugin.core import MemoryCore

            async with MemoryCore.open(settings=self.settings()) as core:
                return await work(core)

        return asyncio.run(opened())

    async def index(self, core: MemoryCore, *, seconds: float | None, doing: str | None = None) -> None:
        """Let what was written be found by meaning too: no process may run after this one to do it.

        A failure is a warning: what was written is stored, and found by its words.

        Args:
            seconds: after which the rest is left to the next process that opens the store.
            doing: what a person who watches is told, with how much there is to do still.
        """
        try:
            if doing is None or not self.output.shows_progress:
                await core.indexed(timeout=seconds)
                return
            with self.output.busy(doing) as tell:
                async with _told(core, tell):
                    await core.indexed(timeout=seconds)
        except MemoryPluginError as error:
            self.output.warn(f"What has no vector yet is found by words alone: {error}")

    async def read_documents(self, core: MemoryCore) -> None:
        """Let the model for documents read what it has not; a failure is a warning, the model for everything has."""
        from memory_plugin.cli.bars import building, steps

        try:
            with steps(self.output) as report:
                await core.spaces.build_documents(progress=building(report))
        except MemoryPluginError as error:
            self.output.warn(f"Documents are searched with the vectors of words alone for now: {error}")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only when the person agrees, or agreed by `--yes`.

        Raises:
            UsageError: there can be no question where JSON is asked for.
            typer.Exit: the answer was no; the exit code is 1.
        """
        if yes:
            return
        if self.output.as_json:
            raise UsageError("With --json nothing is asked: confirm with --yes.")
        if not self.output.ask(question):
            self.output.warn("nothing was changed. Answer y, or confirm with --yes.")
            raise typer.Exit(1)


@asynccontextmanager
async def _told(core: MemoryCore, tell: Callable[[str], None], every: float = 1.0) -> AsyncIterator[None]:
    """Tell, every so many seconds, how much waits for the index; what goes wrong with that is not told."""

    async def watch() -> None:
        with suppress(MemoryPluginError):
            while True:
                await asyncio.sleep(every)
                backlog = await core.passages.backlog()
                tell(f"{backlog.words:,} to go by words, {backlog.vectors:,} by meaning")

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def session_of(context: typer.Context) -> Session:
    """The session that the options before the command made."""
    session = context.find_root().obj
    assert isinstance(session, Session)
    return session


def _sentence(error: Any) -> str:
    """Which variable is wrong and why, of a pydantic ValidationError; values stay out, they may be secret."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False):
        place = str(problem["loc"][0]) if problem["loc"] else "settings"
        variable = place if place.startswith("MEMORY_") else f"MEMORY_{place.upper()}"
        problems.append(f"{variable}: {problem['msg'].lower()}")
    return f"The environment has a setting that cannot work ({'; '.join(problems)}): correct it or unset it."
