"""Every table, as SQLAlchemy sees it. The migrations are the law; a test proves both equal.

Tables carry no schema: raw statements put it in front (`Database.sql`), SQLAlchemy statements by
`schema_translate_map`.
"""

from __future__ import annotations

from typing import Any

from pgvector.sqlalchemy import HALFVEC, SPARSEVEC
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, TSVECTOR
from sqlalchemy.types import TypeEngine

from memory_plugin.db.expressions import FOLDED_LEXEMES, THREAD_WORDS

SPARSE_DIMENSIONS = 1 << 28
"""Size of the space that `term_id` maps lexemes into."""

metadata = MetaData()


def _id(name: str, *, nullable: bool = False, default: str | None = None) -> Column[Any]:
    """A text column that sorts by code point, as LangGraph sorts."""
    return Column(name, Text(collation="C"), nullable=nullable, server_default=default)


def _column(
    name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]], *, nullable: bool = False, default: str | None = None
) -> Column[Any]:
    return Column(name, kind, nullable=nullable, server_default=text(default) if default is not None else None)


def _tenant() -> Column[Any]:
    return _id("tenant_id")


_LISTED = {"fastupdate": "on", "gin_pending_list_limit": "256"}
"""New entries stand in a list first, short enough for a search to read, and go to their places together."""

_TIME = DateTime(timezone=True)
_NOW = "now()"
_CLOCK = "clock_timestamp()"

conversations = Table(
    "conversations",
    metadata,
    _tenant(),
    _id("thread_id"),
    _id("user_id", nullable=True),
    _column("title", Text, nullable=True),
    _column("metadata", JSONB, default="'{}'"),
    Column(
        "memory_buffer",
        JSONB,
        nullable=True,
        comment="Live state of the agent: the latest value of each root channel other than messages, by channel name,"
        " and what the application merged in; NULL when nothing was stored",
    ),
    Column(
        "message_seq",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Last sequence number given to a message of this thread",
    ),
    _column("message_count", BigInteger, default="0"),
    Column(
        "indexed_seq",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Messages up to this sequence number are in the search index",
    ),
    Column(
        "active_hour",
        _TIME,
        nullable=False,
        server_default=text("date_trunc('hour', now(), 'UTC')"),
        comment="updated_at cut to the hour: indexed instead of it so that most updates stay heap-only",
    ),
    _column("created_at", _TIME, default=_NOW),
    _column("updated_at", _TIME, default=_NOW),
    Column(
        "retention",
        JSONB,
        nullable=True,
        comment="How much of this thread's history is kept, in place of the policy for all; NULL follows that one",
    ),
    Column(
        "forgotten_at",
        _TIME,
        nullable=True,
        comment="When the thread was forgotten softly: hidden until somebody writes to it or undoes it",
    ),
    Column(
        "messages_channel",
        Text,
        nullable=True,
        comment="The channel of the graph whose messages are the conversation; NULL means messages",
    ),
    Column(
        "buffer_channels",
        JSONB,
        nullable=True,
        comment="The names in memory_buffer that are the graph's own; the others the application merged in",
    ),
    Column("summary", Text, nullable=True, comment="What a model made of the conversation so far"),
    Column("summary_seq", BigInteger, nullable=True, comment="The last message that the summary knows of"),
    Column(
        "auto_title",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="The title was not given by a person, and may be replaced",
    ),
    Column(
        "extraction",
        JSONB,
        nullable=True,
        comment="How far a model has read this thread for facts to propose, what went wrong, and what it cost",
    ),
    PrimaryKeyConstraint("tenant_id", "thread_id", name="conversations_pkey"),
    Index("conversations_user_idx", "tenant_id", "user_id", "active_hour"),
    Index("conversations_recent_idx", "tenant_id", "active_hour"),
    Index(
        "conversations_metadata_idx",
        "metadata",
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
    ),
    Index("conversations_words_idx", text(f"({THREAD_WORDS})"), postgresql_using="gin"),
    Index("conversations_retention_idx", "tenant_id", "thread_id", postgresql_where=text("retention IS NOT NULL")),
    Index(
        "conversations_memory_buffer_idx",
        "memory_buffer",
        postgresql_using="gin",
        postgresql_ops={"memory_buffer": "jsonb_path_ops"},
    ),
    comment="One row per thread: who it belongs to, its title, and the live state of its agent",
    postgresql_with={"fillfactor": 80},
)

messages = Table(
    "messages",
    metadata,
    _tenant(),
    _id("thread_id"),
    _column("seq", BigInteger),
    _column("id", Uuid),
    Column(
        "origin",
        SmallInteger,
        nullable=False,
        server_default=text("0"),
        comment="0: state of the graph, 1: appended through chat history or the API,"
        " 2: internal to a subgraph or another channel",
    ),
    _column("role", Text, nullable=True),
    _column("message_id", Text, nullable=True),
    _column("name", Text, nullable=True),
    _column("text", Text, nullable=True),
    Column(
        "body",
        JSONB,
        nullable=True,
        comment="The message as JSON (type, content, tool_calls ...); NULL when the serializer encrypts",
    ),
    _column("type", Text, nullable=True),
    Column(
        "raw",
        LargeBinary,
        nullable=True,
        comment="The message as the serializer wrote it, where JSON alone would not give it back exactly",
    ),
    _column("said_at", _TIME, default=_NOW),
    PrimaryKeyConstraint("tenant_id", "thread_id", "seq", name="messages_pkey"),
    Index("messages_results_idx", "tenant_id", "said_at", postgresql_where=text("role = 'tool'")),
    Index("messages_appended_idx", "tenant_id", "thread_id", "seq", postgresql_where=text("origin = 1")),
    comment="One row per message, append-only, in order of arrival within its thread",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _tenant(),
    _id("thread_id"),
    _id("checkpoint_ns", default=""),
    _id("checkpoint_id"),
    _id("parent_checkpoint_id", nullable=True),
    _column("checkpoint", JSONB),
    _column("versions", JSONB),
    Column(
        "message_refs",
        JSONB,
        nullable=True,
        comment="By channel, the messages of the state as half-open ranges of messages.seq, in order",
    ),
    _column("metadata", JSONB, default="'{}'"),
    _column("created_at", _TIME, default=_NOW),
    PrimaryKeyConstraint("tenant_id", "thread_id", "checkpoint_ns", "checkpoint_id", name="checkpoints_pkey"),
    Index(
        "checkpoints_run_idx",
        "tenant_id",
        text("(metadata ->> 'run_id')"),
        postgresql_where=text("(metadata ->> 'run_id') IS NOT NULL"),
    ),
    comment="One row per checkpoint; values live in messages and checkpoint_blobs",
)

checkpoint_blobs = Table(
    "checkpoint_blobs",
    metadata,
    _tenant(),
    _id("thread_id"),
    _id("checkpoint_ns", default=""),
    _id("channel"),
    _id("version"),
    _column("value", JSONB, nullable=True),
    _column("type", Text, nullable=True),
    _column("blob", LargeBinary, nullable=True),
    PrimaryKeyConstraint("tenant_id", "thread_id", "checkpoint_ns", "channel", "version", name="checkpoint_blobs_pkey"),
    comment="One value of one channel at one version: JSON where it survives JSON exactly,"
    " else as the serializer wrote it",
)

checkpoint_writes = Table(
    "checkpoint_writes",
    metadata,
    _tenant(),
    _id("thread_id"),
    _id("checkpoint_ns", default=""),
    _id("checkpoint_id"),
    _id("task_id"),
    _column("idx", Integer),
    _id("task_path", default=""),
    _id("channel"),
    _column("value", JSONB, nullable=True),
    _column("type", Text, nullable=True),
    _column("blob", LargeBinary, nullable=True),
    PrimaryKeyConstraint(
        "tenant_id", "thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx", name="checkpoint_writes_pkey"
    ),
    comment="Pending writes of tasks; may be stored before the checkpoint they belong to",
)

memories = Table(
    "memories",
    metadata,
    _tenant(),
    _column("id", Uuid),
    Column("item_id", Uuid, nullable=False, comment="Stays the same through all versions of an item"),
    _column("version", Integer, default="1"),
    Column("namespace", ARRAY(Text(collation="C")), nullable=False),
    _id("key"),
    Column("content", Text, nullable=False, server_default=""),
    _column("content_hash", LargeBinary),
    _column("value", JSONB),
    _id("user_id", nullable=True),
    _id("thread_id", nullable=True),
    _id("agent_id", nullable=True),
    _column("metadata", JSONB, default="'{}'"),
    _column("source", JSONB, nullable=True),
    _column("importance", REAL, default="0.5"),
    _column("trust", Text, default="'user'"),
    Column(
        "index_fields",
        JSONB,
        nullable=True,
        comment="The fields the writer asked to be searched: NULL for the default, false for none,"
        " else a list of paths",
    ),
    _column("valid_from", _TIME, nullable=True),
    _column("valid_to", _TIME, nullable=True),
    _column("recorded_at", _TIME, default=_CLOCK),
    _column("superseded_at", _TIME, nullable=True),
    _column("created_at", _TIME, default=_CLOCK),
    _column("ttl_minutes", Double, nullable=True),
    _column("expires_at", _TIME, nullable=True),
    _column("last_access_at", _TIME, nullable=True),
    PrimaryKeyConstraint("tenant_id", "id", name="memories_pkey"),
    Index(
        "memories_current_key",
        "tenant_id",
        "namespace",
        "key",
        unique=True,
        postgresql_where=text("superseded_at IS NULL"),
    ),
    Index("memories_item_key", "tenant_id", "item_id", "version", unique=True),
    # these two are not partial: without statistics the planner would take "superseded_at IS NULL" for rare
    Index("memories_hash_idx", "tenant_id", "content_hash"),
    Index("memories_user_idx", "tenant_id", "user_id"),
    Index("memories_expiry_idx", "tenant_id", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    comment="Long-term memories and LangGraph store items: one row per version, the current one has superseded_at NULL",
)

documents = Table(
    "documents",
    metadata,
    _tenant(),
    _column("id", Uuid),
    _id("collection", default="default"),
    _id("source"),
    _id("user_id", nullable=True),
    _column("title", Text),
    _column("media_type", Text),
    _column("version", Integer, default="1"),
    _column("content_hash", LargeBinary),
    _column("metadata", JSONB, default="'{}'"),
    _column("created_at", _TIME, default=_NOW),
    _column("updated_at", _TIME, default=_NOW),
    PrimaryKeyConstraint("tenant_id", "id", name="documents_pkey"),
    Index(
        "documents_source_key", "tenant_id", "collection", "source", text("COALESCE(user_id, ''::text)"), unique=True
    ),
)

document_versions = Table(
    "document_versions",
    metadata,
    _tenant(),
    _column("document_id", Uuid),
    _column("version", Integer),
    _column("title", Text),
    _column("media_type", Text),
    _column("content_hash", LargeBinary),
    _column("characters", BigInteger),
    _column("created_at", _TIME, default=_NOW),
    PrimaryKeyConstraint("tenant_id", "document_id", "version", name="document_versions_pkey"),
    ForeignKeyConstraint(
        ["tenant_id", "document_id"],
        ["documents.tenant_id", "documents.id"],
        name="document_versions_document_fkey",
        ondelete="CASCADE",
    ),
)

chunks = Table(
    "chunks",
    metadata,
    _tenant(),
    _column("id", Uuid),
    _column("document_id", Uuid),
    _column("text", Text),
    _column("text_hash", LargeBinary),
    _column("heading_path", ARRAY(Text), default="'{}'"),
    _column("tokens", Integer, default="0"),
    _column("metadata", JSONB, default="'{}'"),
    PrimaryKeyConstraint("tenant_id", "id", name="chunks_pkey"),
    ForeignKeyConstraint(
        ["tenant_id", "document_id"],
        ["documents.tenant_id", "documents.id"],
        name="chunks_document_fkey",
        ondelete="CASCADE",
    ),
    Index("chunks_document_idx", "tenant_id", "document_id", "text_hash"),
    comment="A passage of a document; the same text keeps its row, id and embedding through versions",
)

chunk_places = Table(
    "chunk_places",
    metadata,
    _tenant(),
    _column("document_id", Uuid),
    _column("version", Integer),
    _column("ordinal", Integer),
    _column("chunk_id", Uuid),
    _column("span_start", BigInteger),
    _column("span_end", BigInteger),
    _column("page", Integer, nullable=True),
    _column("line", Integer, nullable=True),
    PrimaryKeyConstraint("tenant_id", "document_id", "version", "ordinal", name="chunk_places_pkey"),
    ForeignKeyConstraint(
        ["tenant_id", "document_id", "version"],
        ["document_versions.tenant_id", "document_versions.document_id", "document_versions.version"],
        name="chunk_places_version_fkey",
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(
        ["tenant_id", "chunk_id"],
        ["chunks.tenant_id", "chunks.id"],
        name="chunk_places_chunk_fkey",
        ondelete="CASCADE",
    ),
    Index("chunk_places_chunk_idx", "tenant_id", "chunk_id", "version"),
    comment="Where a chunk stands in one version of its document",
)

passages = Table(
    "passages",
    metadata,
    _tenant(),
    _column("id", Uuid),
    Column("kind", SmallInteger, nullable=False, comment="1: memory, 2: message, 3: reference"),
    _id("user_id", nullable=True),
    _id("thread_id", nullable=True),
    _column("seq", BigInteger, nullable=True),
    _column("document_id", Uuid, nullable=True),
    _column("speaker", Text, nullable=True),
    _column("said_at", _TIME),
    Column("live_until", _TIME, nullable=True, comment="When the fact was superseded; NULL while it is current"),
    _column("length", Integer),
    _column("lexemes", TSVECTOR),
    Column(
        "weights",
        SPARSEVEC(SPARSE_DIMENSIONS),
        nullable=False,
        comment="BM25 weight of each term (term frequency and length part), by term_id(lexeme)",
    ),
    Column(
        "flagged",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Whether the text reads like an instruction to an assistant",
    ),
    Column(
        "keys",
        ARRAY(Integer),
        nullable=False,
        server_default=text("'{}'"),
        comment="The terms of this tenant and kind, by term_keys(...)",
    ),
    PrimaryKeyConstraint("tenant_id", "id", name="passages_pkey"),
    Index("passages_flagged_idx", "tenant_id", "kind", "said_at", postgresql_where=text("flagged")),
    Index("passages_keys_idx", "keys", postgresql_using="gin", postgresql_with=_LISTED),
    Index(
        "passages_folded_idx",
        text(f"({FOLDED_LEXEMES})"),
        postgresql_using="gin",
        postgresql_with=_LISTED,
        postgresql_where=text("kind = 2"),
    ),
    Index(
        "passages_speaker_idx",
        "tenant_id",
        text("lower(split_part(speaker, ' ', 1))"),
        "user_id",
        postgresql_where=text("kind = 2 AND speaker <> ALL (ARRAY['human', 'ai', 'tool', 'system'])"),
    ),
    Index("passages_user_idx", "tenant_id", "kind", "user_id"),
    Index("passages_thread_idx", "tenant_id", "thread_id", "seq", postgresql_where=text("thread_id IS NOT NULL")),
    Index("passages_document_idx", "tenant_id", "document_id", postgresql_where=text("document_id IS NOT NULL")),
    comment="The search index: one row per memory, message or chunk, under the id of that row",
)

term_statistics = Table(
    "term_statistics",
    metadata,
    _tenant(),
    _column("kind", SmallInteger),
    _column("term", Integer),
    _column("passages", BigInteger),
    PrimaryKeyConstraint("tenant_id", "kind", "term", name="term_statistics_pkey"),
    comment="In how many passages a term stands, for the inverse document frequency",
    postgresql_with={"fillfactor": 70},
)

corpus_statistics = Table(
    "corpus_statistics",
    metadata,
    _tenant(),
    _column("kind", SmallInteger),
    _column("passages", BigInteger, default="0"),
    _column("total_length", BigInteger, default="0"),
    PrimaryKeyConstraint("tenant_id", "kind", name="corpus_statistics_pkey"),
    postgresql_with={"fillfactor": 50},
)

embedding_models = Table(
    "embedding_models",
    metadata,
    _tenant(),
    _column("model_id", Integer),
    _column("name", Text),
    _column("dims", Integer),
    _column("created_at", _TIME, default=_NOW),
    Column(
        "spec",
        Text,
        nullable=True,
        comment="The setting that opens this model; NULL where a program passed it as an object",
    ),
    Column(
        "ready_at",
        _TIME,
        nullable=True,
        comment="Since when every passage has its vector and searches use them; NULL while they are being made",
    ),
    Column("retired_at", _TIME, nullable=True, comment="Since when new passages get no vector of this model"),
    Column(
        "kind",
        SmallInteger,
        nullable=True,
        comment="The kind of passages it is for; NULL where it is for all",
    ),
    PrimaryKeyConstraint("tenant_id", "model_id", name="embedding_models_pkey"),
    Index("embedding_models_name_key", "tenant_id", "name", unique=True),
    comment="The vector spaces in use; vectors of two models are never compared",
)

embeddings = Table(
    "embeddings",
    metadata,
    _tenant(),
    _column("model_id", Integer),
    _column("passage_id", Uuid),
    _column("vector", HALFVEC),
    Column(
        "part",
        SmallInteger,
        nullable=False,
        server_default=text("0"),
        comment="Which text of the passage: a store item has a vector for each of its indexed fields",
    ),
    PrimaryKeyConstraint("tenant_id", "model_id", "passage_id", "part", name="embeddings_pkey"),
    ForeignKeyConstraint(
        ["tenant_id", "model_id"],
        ["embedding_models.tenant_id", "embedding_models.model_id"],
        name="embeddings_model_fkey",
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(
        ["tenant_id", "passage_id"],
        ["passages.tenant_id", "passages.id"],
        name="embeddings_passage_fkey",
        ondelete="CASCADE",
    ),
    Index("embeddings_passage_idx", "tenant_id", "passage_id"),
    Index("embeddings_parts_idx", "tenant_id", "model_id", postgresql_where=text("part > 0")),
)

index_queue = Table(
    "index_queue",
    metadata,
    _tenant(),
    _column("kind", SmallInteger),
    _id("item"),
    PrimaryKeyConstraint("tenant_id", "kind", "item", name="index_queue_pkey"),
    comment="What is stored but not yet in the search index: threads with new messages, memories, chunks",
)

embedding_queue = Table(
    "embedding_queue",
    metadata,
    _tenant(),
    _column("model_id", Integer),
    _column("passage_id", Uuid),
    Column(
        "attempts",
        SmallInteger,
        nullable=False,
        server_default=text("0"),
        comment="How often the model refused this very text",
    ),
    Column(
        "not_before",
        _TIME,
        nullable=True,
        comment="When a text that was refused is tried again; NULL where it was not",
    ),
    PrimaryKeyConstraint("tenant_id", "model_id", "passage_id", name="embedding_queue_pkey"),
    ForeignKeyConstraint(
        ["tenant_id", "model_id"],
        ["embedding_models.tenant_id", "embedding_models.model_id"],
        name="embedding_queue_model_fkey",
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(
        ["tenant_id", "passage_id"],
        ["passages.tenant_id", "passages.id"],
        name="embedding_queue_passage_fkey",
        ondelete="CASCADE",
    ),
    Index("embedding_queue_passage_idx", "tenant_id", "passage_id"),
    comment="Passages that are found by words and wait for their vector",
)

working_memory = Table(
    "working_memory",
    metadata,
    _tenant(),
    _column("scope", Text),
    _id("scope_id"),
    _column("version", Integer),
    _column("content", Text),
    _column("updated_at", _TIME, default=_NOW),
    PrimaryKeyConstraint("tenant_id", "scope", "scope_id", "version", name="working_memory_pkey"),
    CheckConstraint("scope IN ('chat', 'user')", name="working_memory_scope_check"),
)

user_memory = Table(
    "user_memory",
    metadata,
    _tenant(),
    _id("user_id"),
    _column("version", Integer),
    _column("content", Text),
    _column("created_at", _TIME, default=_NOW),
    _column("updated_at", _TIME, default=_NOW),
    PrimaryKeyConstraint("tenant_id", "user_id", "version", name="user_memory_pkey"),
    comment="The one summary of a user, every version; created_at is that of the first",
)

agent_settings = Table(
    "agent_settings",
    metadata,
    _tenant(),
    _column("scope", Text),
    _id("scope_id"),
    _id("name"),
    _column("version", Integer),
    _column("value", JSONB),
    _column("valid_from", _TIME, default=_CLOCK),
    _column("set_by", Text, nullable=True),
    _column("reason", Text, nullable=True),
    PrimaryKeyConstraint("tenant_id", "scope", "scope_id", "name", "version", name="agent_settings_pkey"),
    CheckConstraint("scope IN ('tenant', 'agent', 'user', 'thread')", name="agent_settings_scope_check"),
    Index("agent_settings_time_idx", "tenant_id", "scope", "scope_id", "name", "valid_from"),
)

forgotten_users = Table(
    "forgotten_users",
    metadata,
    _tenant(),
    _id("user_id"),
    _column("forgotten_at", _TIME),
    PrimaryKeyConstraint("tenant_id", "user_id", "forgotten_at", name="forgotten_users_pkey"),
    comment="When a user was forgotten softly: what was closed or hidden at these times comes back by an undo",
)

listeners = Table(
    "listeners",
    metadata,
    _tenant(),
    _column("id", Uuid),
    _column("until", _TIME),
    PrimaryKeyConstraint("tenant_id", "id", name="listeners_pkey"),
    comment="Processes that want to hear of changes of a tenant, for as long as they say",
)

tokens = Table(
    "tokens",
    metadata,
    _tenant(),
    _column("id", Uuid),
    _column("name", Text, nullable=True),
    _id("user_id", nullable=True),
    _column("scopes", ARRAY(Text)),
    _column("secret_hash", LargeBinary),
    _column("created_at", _TIME, default=_NOW),
    _column("expires_at", _TIME, nullable=True),
    _column("used_hour", _TIME, nullable=True),
    _column("revoked_at", _TIME, nullable=True),
    PrimaryKeyConstraint("tenant_id", "id", name="tokens_pkey"),
    CheckConstraint("user_id IS NOT NULL OR 'service' = ANY (scopes)", name="tokens_user_check"),
    Index("tokens_user_idx", "tenant_id", "user_id"),
    comment="Who may use the store over HTTP: the SHA-256 of each token's secret, never the secret itself",
)

search_languages = Table(
    "search_languages",
    metadata,
    _tenant(),
    Column("languages", ARRAY(Text), nullable=False),
    _column("changed_at", _TIME, default=_NOW),
    PrimaryKeyConstraint("tenant_id", name="search_languages_pkey"),
    comment="The text search configurations that the words of a tenant are read in",
)

proposals = Table(
    "proposals",
    metadata,
    _tenant(),
    _column("id", Uuid),
    _id("thread_id"),
    _id("user_id", nullable=True),
    _column("content", Text),
    _column("content_hash", LargeBinary),
    _column("subject", Text, nullable=True),
    _column("attribute", Text, nullable=True),
    Column("messages", ARRAY(Text), nullable=False),
    _column("importance", REAL, default="0.5"),
    _column("valid_from", _TIME, nullable=True),
    _column("model", Text, nullable=True),
    _column("status", Text, default="'open'"),
    _column("memory_id", Uuid, nullable=True),
    _column("created_at", _TIME, default=_NOW),
    _column("decided_at", _TIME, nullable=True),
    PrimaryKeyConstraint("tenant_id", "id", name="proposals_pkey"),
    CheckConstraint("status IN ('open', 'accepted', 'rejected')", name="proposals_status_check"),
    Index("proposals_content_key", "tenant_id", text("COALESCE(user_id, ''::text)"), "content_hash", unique=True),
    Index("proposals_thread_idx", "tenant_id", "thread_id"),
    comment="Facts that a model took from messages, for somebody to accept or reject",
)

feedback = Table(
    "feedback",
    metadata,
    _tenant(),
    _id("thread_id"),
    _column("message", Uuid),
    _id("given_by", default=""),
    _column("outcome", Text),
    _column("score", Double, nullable=True),
    _column("comment", Text, nullable=True),
    _column("given_at", _TIME, default=_NOW),
    PrimaryKeyConstraint("tenant_id", "thread_id", "message", "given_by", name="feedback_pkey"),
    CheckConstraint("outcome IN ('good', 'bad', 'mixed')", name="feedback_outcome_check"),
    comment="What somebody thought of an answer, by the message that asked for it",
)

shared_conversations = Table(
    "shared_conversations",
    metadata,
    _tenant(),
    _id("id"),
    _id("thread_id"),
    _column("last_message", Uuid, nullable=True),
    _column("created_at", _TIME, default=_NOW),
    _column("expires_at", _TIME, nullable=True),
    PrimaryKeyConstraint("tenant_id", "id", name="shared_conversations_pkey"),
    Index("shared_conversations_thread_idx", "tenant_id", "thread_id"),
    comment="Conversations that may be read by whoever knows the id; last_message ends what is shown",
)
