"""ReferenceRetriever: the store's reference documents as a LangChain retriever."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from memory_plugin.bridge import Bridge
from memory_plugin.core import MemoryCore
from memory_plugin.types import Hit


class ReferenceRetriever(BaseRetriever):
    """Finds cited passages; made by `Memory.retriever`.

    A document's metadata carries `citation`, `uri`, `title`, `source`, `version`, `section`, `page` or
    `line`, `score` and whatever was given when the reference was added. With `neighbours` its text goes
    on with so many passages before and after the one that was found and is cited.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    core: MemoryCore = Field(exclude=True, repr=False)
    bridge: Bridge = Field(exclude=True, repr=False)
    collection: str | None = None
    user_id: str | None = None
    limit: int = 8
    filter: dict[str, Any] | None = None
    neighbours: int = 0

    async def _search(self, query: str) -> list[Document]:
        hits = await self.core.references.search(
            query,
            collection=self.collection,
            user_id=self.user_id,
            limit=self.limit,
            filter=self.filter,
            neighbours=self.neighbours,
        )
        return [document_of(hit) for hit in hits]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain passes it
    ) -> list[Document]:
        return await self._search(query)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - likewise
    ) -> list[Document]:
        return self.bridge.run(self._search(query))


def document_of(hit: Hit) -> Document:
    """A hit as a LangChain document."""
    citation = hit.citation
    cited = (
        {}
        if citation is None
        else {
            "citation": str(citation),
            "uri": citation.uri,
            "title": citation.title,
            "source": citation.source,
            "version": citation.version,
            "section": citation.section,
            "page": citation.page,
            "line": None if citation.page else citation.line,
        }
    )
    return Document(
        id=hit.id,
        page_content=_with_neighbours(hit),
        metadata={
            **hit.metadata,
            **{name: value for name, value in cited.items() if value is not None},
            "score": hit.score,
        },
    )


def _with_neighbours(hit: Hit) -> str:
    """The passage between those that were asked for with it."""
    here = (hit.citation.start if hit.citation else None) or 0
    around = [((each.citation.start if each.citation else None) or 0, each.text) for each in hit.neighbours]
    return "\n\n".join(text for _, text in sorted([*around, (here, hit.text)]))
