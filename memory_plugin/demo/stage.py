"""What the scenes of the demo share."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_plugin.demo.show import Show
from memory_plugin.demo.worker import Orders

if TYPE_CHECKING:
    from memory_plugin.memory import Memory
    from memory_plugin.settings import Settings

COLLECTION = "demo"


@dataclass(frozen=True, slots=True)
class Options:
    """How the demo is played."""

    directory: Path
    url: str | None = None
    keep: bool = False


@dataclass(slots=True)
class Stage:
    """What the scenes share."""

    options: Options
    show: Show
    settings: Settings
    model: str
    memory: Memory = field(init=False)
    run: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def tenant(self) -> str:
        """Always the same in the demo's own database; on somebody's server one that was not there before."""
        return "demo" if self.options.url is None else f"demo-{self.run}"

    @property
    def user_id(self) -> str:
        """The user of this run: nobody the demo knew before."""
        return f"ada-{self.run}"

    @property
    def thread_id(self) -> str:
        """The thread that two processes share."""
        return f"refund-{self.run}"

    @property
    def logs(self) -> Path:
        """Where the standard errors of the child processes go."""
        return self.options.directory / "logs"

    def orders(self, *turns: str, decision: Mapping[str, Any] | None = None) -> Orders:
        """Orders for a worker on the shared thread."""
        return Orders(
            url=self.memory.database.url,
            schema=self.settings.db_schema,
            tenant=self.tenant,
            user_id=self.user_id,
            thread_id=self.thread_id,
            model=self.model,
            turns=turns,
            decision=decision,
        )
