"""Every operation: its route, its models, what its token must allow, and what it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel

from mcp_server import reading
from mcp_server.caller import Caller
from mcp_server.identity import READ, SERVICE, WRITE
from mcp_server.rest import models
from mcp_server.rest.problems import ProblemError
from memory_plugin.errors import NotFoundError
from memory_plugin.types import HIT_KINDS
from memory_plugin.types import Source as Provenance

if TYPE_CHECKING:
    from memory_plugin.types import Citation, Hit
    from memory_plugin.types import Conversation as StoredConversation
    from memory_plugin.types import Message as StoredMessage


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        path: below /api/v1, with placeholders that `where` names.
        where, query, body: what the path, the query and the body hold; None: nothing.
        failures: statuses it may answer with, beside those that all have.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    run: Callable[..., Awaitable[BaseModel]]
    answer: type[BaseModel]
    scope: str = READ
    where: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    failures: tuple[int, ...] = ()

    @property
    def segments(self) -> tuple[str, ...]:
        """The path, segment by segment; placeholders in braces."""
        return tuple(self.path.strip("/").split("/"))


def acting_for(caller: Caller, user_id: str | None) -> Caller:
    """The caller with the user that the call is for.

    Raises:
        ProblemError: a service that names nobody, or a user who names somebody else.
    """
    if user_id is None or user_id == caller.user_id:
        if caller.user_id is None:
            detail = models.Detail(where="user_id", what="a service names the user in each call")
            raise ProblemError(422, "invalid", "Name the user: this token is nobody's in particular.", details=[detail])
        return caller
    if caller.user_id is None or SERVICE in caller.scopes:
        return replace(caller, user_id=user_id)
    raise ProblemError(403, "forbidden", "This token may name its own user alone: leave user_id out, or name that one.")


def reaching(caller: Caller) -> Caller:
    """The caller for what is named by its id alone: a service reaches all of its tenant."""
    return replace(caller, user_id=None) if SERVICE in caller.scopes else caller


# -- the summary of a user


async def save_memory(caller: Caller, asked: models.SaveMemory) -> models.Saved:
    """Saves the user's summary, or replaces it; every version is kept."""
    caller = acting_for(caller, asked.user_id)
    await caller.core.user_memory.save(asked.user_id, asked.content)
    return models.Saved()


async def get_memory(caller: Caller, of: models.OfUser) -> models.UserSummaryAnswer:
    """The user's summary, null where there is none."""
    caller = acting_for(caller, of.user_id)
    found = await caller.core.user_memory.get(of.user_id)
    if found is None:
        return models.UserSummaryAnswer(memory=None)
    return models.UserSummaryAnswer(
        memory=models.UserSummary(content=found.content, created_at=found.created_at, updated_at=found.updated_at)
    )


# -- facts


async def remember(caller: Caller, asked: models.Remember) -> models.StoredFact:
    """Stores one fact; the same one again stores nothing."""
    caller = acting_for(caller, asked.user_id)
    stored = await caller.core.remember(
        asked.content.strip(),
        user_id=caller.user_id,
        key=asked.key,
        source=Provenance(uri="rest:"),
        valid_from=asked.valid_from,
        valid_to=asked.valid_to,
    )
    return models.StoredFact(id=str(stored.id), result=stored.status or "created", version=stored.version)


async def get_fact(caller: Caller, of: models.OfMemory) -> models.FactAnswer:
    """One fact as it stands now."""
    found = await reading.own_memory(reaching(caller), UUID(of.id))
    return models.FactAnswer(
        memory=models.KnownFact(
            id=str(found.id),
            content=found.content,
            key=found.key,
            version=found.version,
            user_id=found.user_id,
            trust=found.trust,
            metadata=dict(found.metadata),
            valid_from=found.valid_from,
            valid_to=found.valid_to,
            recorded_at=found.recorded_at,
        )
    )


async def forget(caller: Caller, of: models.OfMemory) -> models.Forgotten:
    """Forgets one fact, softly."""
    found = await reading.own_memory(reaching(caller), UUID(of.id), shared=False)
    await caller.core.forget(item_id=found.id)
    return models.Forgotten(id=of.id)


# -- search


async def recall(caller: Caller, asked: models.Recall) -> models.Results:
    """Facts, messages and passages that answer the query."""
    caller = acting_for(caller, asked.user_id)
    hits = await caller.core.recall(
        asked.query,
        user_id=caller.user_id,
        kinds=asked.kinds or HIT_KINDS,
        since=asked.since,
        until=asked.until,
        limit=asked.limit,
    )
    return models.Results(results=[_found(hit) for hit in hits], words_only=hits.words_only)


async def search_references(caller: Caller, asked: models.SearchReferences) -> models.Results:
    """Passages of the documents that answer the query, each with its citation."""
    caller = acting_for(caller, asked.user_id)
    hits = await caller.core.search_references(
        asked.query, user_id=caller.user_id, collection=asked.collection, limit=asked.limit
    )
    return models.Results(results=[_found(hit) for hit in hits], words_only=hits.words_only)


def _found(hit: Hit) -> models.Found:
    return models.Found(
        kind=hit.kind,
        id=hit.id,
        text=hit.text,
        score=hit.score,
        at=hit.at,
        user_id=hit.user_id,
        thread_id=hit.thread_id,
        speaker=hit.speaker,
        key=hit.key,
        trust=hit.trust,
        flagged=hit.flagged,
        metadata=dict(hit.metadata),
        citation=None if hit.citation is None else _source(hit.citation),
    )


def _source(citation: Citation) -> models.Source:
    return models.Source(
        uri=citation.uri,
        title=citation.title,
        source=citation.source,
        version=citation.version,
        section=citation.section,
        page=citation.page,
        line=citation.line,
    )


# -- conversations


async def list_conversations(caller: Caller, asked: models.ListConversations) -> models.Conversations:
    """The user's conversations, the last active first."""
    caller = acting_for(caller, asked.user_id)
    page = await caller.core.conversations.list(
        user_id=caller.user_id, search=asked.search or None, limit=asked.limit, cursor=asked.cursor or None
    )
    return models.Conversations(conversations=[_conversation(each) for each in page.items], cursor=page.cursor)


async def get_conversation(caller: Caller, of: models.OfThread) -> models.ConversationAnswer:
    """One conversation."""
    return models.ConversationAnswer(conversation=_conversation(await reaching(caller).conversation(of.thread_id)))


async def read_messages(caller: Caller, of: models.OfThread, asked: models.ReadMessages) -> models.Messages:
    """What was said in a conversation."""
    await reaching(caller).conversation(of.thread_id)
    if asked.before is None:  # one more than wanted tells whether there are earlier ones
        messages = await caller.core.conversations.messages(of.thread_id, limit=asked.limit + 1)
    else:
        everything = await caller.core.conversations.messages(of.thread_id)
        end = next((place for place, each in enumerate(everything) if str(each.id) == asked.before), None)
        if end is None:
            raise NotFoundError("There is no such message in this conversation: take the cursor of an answer.")
        messages = everything[max(end - asked.limit - 1, 0) : end]
    shown = messages[-asked.limit :]
    return models.Messages(
        messages=[_message(each) for each in shown],
        cursor=str(shown[0].id) if len(messages) > len(shown) else None,
    )


def _conversation(stored: StoredConversation) -> models.Conversation:
    return models.Conversation(
        thread_id=stored.thread_id,
        user_id=stored.user_id,
        title=stored.title,
        metadata=dict(stored.metadata),
        message_count=stored.message_count,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


def _message(stored: StoredMessage) -> models.Message:
    return models.Message(id=str(stored.id), role=stored.role, name=stored.name, text=stored.text, at=stored.at)


SUMMARY, FACTS, SEARCH, CONVERSATIONS = "User memory", "Facts", "Search", "Conversations"

OPERATIONS: Sequence[Operation] = (
    Operation(
        "POST",
        "/memory",
        "save_memory",
        SUMMARY,
        "Save or replace the one summary kept about a user",
        save_memory,
        models.Saved,
        scope=WRITE,
        body=models.SaveMemory,
        failures=(409,),
    ),
    Operation(
        "GET",
        "/memory/{user_id}",
        "get_memory",
        SUMMARY,
        "Read the summary kept about a user",
        get_memory,
        models.UserSummaryAnswer,
        where=models.OfUser,
    ),
    Operation(
        "POST",
        "/memories",
        "remember",
        FACTS,
        "Remember one fact",
        remember,
        models.StoredFact,
        scope=WRITE,
        body=models.Remember,
        failures=(409,),
    ),
    Operation(
        "GET",
        "/memories/{id}",
        "get_fact",
        FACTS,
        "Read one fact",
        get_fact,
        models.FactAnswer,
        where=models.OfMemory,
        failures=(404,),
    ),
    Operation(
        "DELETE",
        "/memories/{id}",
        "forget",
        FACTS,
        "Forget one fact",
        forget,
        models.Forgotten,
        scope=WRITE,
        where=models.OfMemory,
        failures=(404, 409),
    ),
    Operation(
        "POST",
        "/recall",
        "recall",
        SEARCH,
        "Search facts, conversations and documents",
        recall,
        models.Results,
        body=models.Recall,
    ),
    Operation(
        "POST",
        "/references/search",
        "search_references",
        SEARCH,
        "Search the reference documents",
        search_references,
        models.Results,
        body=models.SearchReferences,
    ),
    Operation(
        "GET",
        "/conversations",
        "list_conversations",
        CONVERSATIONS,
        "List a user's conversations",
        list_conversations,
        models.Conversations,
        query=models.ListConversations,
    ),
    Operation(
        "GET",
        "/conversations/{thread_id}",
        "get_conversation",
        CONVERSATIONS,
        "Read about one conversation",
        get_conversation,
        models.ConversationAnswer,
        where=models.OfThread,
        failures=(404,),
    ),
    Operation(
        "GET",
        "/conversations/{thread_id}/messages",
        "read_messages",
        CONVERSATIONS,
        "Read the messages of a conversation",
        read_messages,
        models.Messages,
        where=models.OfThread,
        query=models.ReadMessages,
        failures=(404,),
    ),
)
"""Both the routes and the OpenAPI document are made from this list."""
