"""The whole store: conversations, checkpoints, memories, references, search index, settings.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema; `vector` must already be installed (the migration environment sees to it).
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CONVERSATIONS = """
CREATE TABLE conversations (
    tenant_id      text COLLATE "C" NOT NULL,
    thread_id      text COLLATE "C" NOT NULL,
    user_id        text COLLATE "C",
    title          text,
    metadata       jsonb NOT NULL DEFAULT '{}',
    memory_buffer  jsonb,
    message_seq    bigint NOT NULL DEFAULT 0,
    message_count  bigint NOT NULL DEFAULT 0,
    indexed_seq    bigint NOT NULL DEFAULT 0,
    active_hour    timestamptz NOT NULL DEFAULT date_trunc('hour', now(), 'UTC'),
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT conversations_pkey PRIMARY KEY (tenant_id, thread_id)
) WITH (fillfactor = 80);
CREATE INDEX conversations_user_idx ON conversations (tenant_id, user_id, active_hour);
CREATE INDEX conversations_recent_idx ON conversations (tenant_id, active_hour);
CREATE INDEX conversations_memory_buffer_idx ON conversations USING gin (memory_buffer jsonb_path_ops);
COMMENT ON TABLE conversations IS 'One row per thread: who it belongs to, its title, and the live state of its agent';
COMMENT ON COLUMN conversations.memory_buffer IS 'Live state of the agent: the latest value of each root channel other than messages, by channel name, and what the application merged in; NULL when nothing was stored';
COMMENT ON COLUMN conversations.message_seq IS 'Last sequence number given to a message of this thread';
COMMENT ON COLUMN conversations.indexed_seq IS 'Messages up to this sequence number are in the search index';
COMMENT ON COLUMN conversations.active_hour IS 'updated_at cut to the hour: indexed instead of it so that most updates stay heap-only';

CREATE TABLE messages (
    tenant_id   text COLLATE "C" NOT NULL,
    thread_id   text COLLATE "C" NOT NULL,
    seq         bigint NOT NULL,
    id          uuid NOT NULL,
    origin      smallint NOT NULL DEFAULT 0,
    role        text,
    message_id  text,
    name        text,
    text        text,
    body        jsonb,
    type        text,
    raw         bytea,
    said_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT messages_pkey PRIMARY KEY (tenant_id, thread_id, seq)
);
CREATE INDEX messages_appended_idx ON messages (tenant_id, thread_id, seq) WHERE origin = 1;
COMMENT ON TABLE messages IS 'One row per message, append-only, in order of arrival within its thread';
COMMENT ON COLUMN messages.origin IS '0: state of the graph, 1: appended through chat history or the API, 2: internal to a subgraph or another channel';
COMMENT ON COLUMN messages.body IS 'The message as JSON (type, content, tool_calls ...); NULL when the serializer encrypts';
COMMENT ON COLUMN messages.raw IS 'The message as the serializer wrote it, where JSON alone would not give it back exactly';
"""

CHECKPOINTS = """
CREATE TABLE checkpoints (
    tenant_id             text COLLATE "C" NOT NULL,
    thread_id             text COLLATE "C" NOT NULL,
    checkpoint_ns         text COLLATE "C" NOT NULL DEFAULT '',
    checkpoint_id         text COLLATE "C" NOT NULL,
    parent_checkpoint_id  text COLLATE "C",
    checkpoint            jsonb NOT NULL,
    versions              jsonb NOT NULL,
    message_refs          jsonb,
    metadata              jsonb NOT NULL DEFAULT '{}',
    created_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT checkpoints_pkey PRIMARY KEY (tenant_id, thread_id, checkpoint_ns, checkpoint_id)
);
CREATE INDEX checkpoints_run_idx ON checkpoints (tenant_id, (metadata ->> 'run_id')) WHERE (metadata ->> 'run_id') IS NOT NULL;
COMMENT ON TABLE checkpoints IS 'One row per checkpoint; values live in messages and checkpoint_blobs';
COMMENT ON COLUMN checkpoints.message_refs IS 'By channel, the messages of the state as half-open ranges of messages.seq, in order';

CREATE TABLE checkpoint_blobs (
    tenant_id      text COLLATE "C" NOT NULL,
    thread_id      text COLLATE "C" NOT NULL,
    checkpoint_ns  text COLLATE "C" NOT NULL DEFAULT '',
    channel        text COLLATE "C" NOT NULL,
    version        text COLLATE "C" NOT NULL,
    value          jsonb,
    type           text,
    blob           bytea,
    CONSTRAINT checkpoint_blobs_pkey PRIMARY KEY (tenant_id, thread_id, checkpoint_ns, channel, version)
);
COMMENT ON TABLE checkpoint_blobs IS 'One value of one channel at one version: JSON where it survives JSON exactly, else as the serializer wrote it';

CREATE TABLE checkpoint_writes (
    tenant_id      text COLLATE "C" NOT NULL,
    thread_id      text COLLATE "C" NOT NULL,
    checkpoint_ns  text COLLATE "C" NOT NULL DEFAULT '',
    checkpoint_id  text COLLATE "C" NOT NULL,
    task_id        text COLLATE "C" NOT NULL,
    idx            integer NOT NULL,
    task_path      text COLLATE "C" NOT NULL DEFAULT '',
    channel        text COLLATE "C" NOT NULL,
    value          jsonb,
    type           text,
    blob           bytea,
    CONSTRAINT checkpoint_writes_pkey PRIMARY KEY (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);
COMMENT ON TABLE checkpoint_writes IS 'Pending writes of tasks; may be stored before the checkpoint they belong to';
"""

MEMORIES = """
CREATE TABLE memories (
    tenant_id       text COLLATE "C" NOT NULL,
    id              uuid NOT NULL,
    item_id         uuid NOT NULL,
    version         integer NOT NULL DEFAULT 1,
    namespace       text[] COLLATE "C" NOT NULL,
    key             text COLLATE "C" NOT NULL,
    content         text NOT NULL DEFAULT '',
    content_hash    bytea NOT NULL,
    value           jsonb NOT NULL,
    user_id         text COLLATE "C",
    thread_id       text COLLATE "C",
    agent_id        text COLLATE "C",
    metadata        jsonb NOT NULL DEFAULT '{}',
    source          jsonb,
    importance      real NOT NULL DEFAULT 0.5,
    trust           text NOT NULL DEFAULT 'user',
    index_fields    jsonb,
    valid_from      timestamptz,
    valid_to        timestamptz,
    recorded_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    superseded_at   timestamptz,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ttl_minutes     double precision,
    expires_at      timestamptz,
    last_access_at  timestamptz,
    CONSTRAINT memories_pkey PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX memories_current_key ON memories (tenant_id, namespace, key) WHERE superseded_at IS NULL;
CREATE UNIQUE INDEX memories_item_key ON memories (tenant_id, item_id, version);
CREATE INDEX memories_hash_idx ON memories (tenant_id, content_hash);
CREATE INDEX memories_user_idx ON memories (tenant_id, user_id);
CREATE INDEX memories_expiry_idx ON memories (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE memories IS 'Long-term memories and LangGraph store items: one row per version, the current one has superseded_at NULL';
COMMENT ON COLUMN memories.item_id IS 'Stays the same through all versions of an item';
COMMENT ON COLUMN memories.index_fields IS 'The fields the writer asked to be searched: NULL for the default, false for none, else a list of paths';
"""

REFERENCES = """
CREATE TABLE documents (
    tenant_id     text COLLATE "C" NOT NULL,
    id            uuid NOT NULL,
    collection    text COLLATE "C" NOT NULL DEFAULT 'default',
    source        text COLLATE "C" NOT NULL,
    user_id       text COLLATE "C",
    title         text NOT NULL,
    media_type    text NOT NULL,
    version       integer NOT NULL DEFAULT 1,
    content_hash  bytea NOT NULL,
    metadata      jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT documents_pkey PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX documents_source_key ON documents (tenant_id, collection, source, coalesce(user_id, ''));

CREATE TABLE document_versions (
    tenant_id     text COLLATE "C" NOT NULL,
    document_id   uuid NOT NULL,
    version       integer NOT NULL,
    title         text NOT NULL,
    media_type    text NOT NULL,
    content_hash  bytea NOT NULL,
    characters    bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT document_versions_pkey PRIMARY KEY (tenant_id, document_id, version),
    CONSTRAINT document_versions_document_fkey FOREIGN KEY (tenant_id, document_id)
        REFERENCES documents (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE chunks (
    tenant_id     text COLLATE "C" NOT NULL,
    id            uuid NOT NULL,
    document_id   uuid NOT NULL,
    text          text NOT NULL,
    text_hash     bytea NOT NULL,
    heading_path  text[] NOT NULL DEFAULT '{}',
    tokens        integer NOT NULL DEFAULT 0,
    metadata      jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT chunks_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT chunks_document_fkey FOREIGN KEY (tenant_id, document_id)
        REFERENCES documents (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX chunks_document_idx ON chunks (tenant_id, document_id, text_hash);
COMMENT ON TABLE chunks IS 'A passage of a document; the same text keeps its row, id and embedding through versions';

CREATE TABLE chunk_places (
    tenant_id    text COLLATE "C" NOT NULL,
    document_id  uuid NOT NULL,
    version      integer NOT NULL,
    ordinal      integer NOT NULL,
    chunk_id     uuid NOT NULL,
    span_start   bigint NOT NULL,
    span_end     bigint NOT NULL,
    page         integer,
    line         integer,
    CONSTRAINT chunk_places_pkey PRIMARY KEY (tenant_id, document_id, version, ordinal),
    CONSTRAINT chunk_places_version_fkey FOREIGN KEY (tenant_id, document_id, version)
        REFERENCES document_versions (tenant_id, document_id, version) ON DELETE CASCADE,
    CONSTRAINT chunk_places_chunk_fkey FOREIGN KEY (tenant_id, chunk_id)
        REFERENCES chunks (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX chunk_places_chunk_idx ON chunk_places (tenant_id, chunk_id, version);
COMMENT ON TABLE chunk_places IS 'Where a chunk stands in one version of its document';
"""

SEARCH = """
CREATE TABLE passages (
    tenant_id    text COLLATE "C" NOT NULL,
    id           uuid NOT NULL,
    kind         smallint NOT NULL,
    user_id      text COLLATE "C",
    thread_id    text COLLATE "C",
    seq          bigint,
    document_id  uuid,
    speaker      text,
    said_at      timestamptz NOT NULL,
    live_until   timestamptz,
    length       integer NOT NULL,
    lexemes      tsvector NOT NULL,
    weights      sparsevec(268435456) NOT NULL,
    CONSTRAINT passages_pkey PRIMARY KEY (tenant_id, id)
);
CREATE INDEX passages_lexemes_idx ON passages USING gin (lexemes) WITH (fastupdate = off);
CREATE INDEX passages_user_idx ON passages (tenant_id, kind, user_id);
CREATE INDEX passages_thread_idx ON passages (tenant_id, thread_id, seq) WHERE thread_id IS NOT NULL;
CREATE INDEX passages_document_idx ON passages (tenant_id, document_id) WHERE document_id IS NOT NULL;
COMMENT ON TABLE passages IS 'The search index: one row per memory, message or chunk, under the id of that row';
COMMENT ON COLUMN passages.kind IS '1: memory, 2: message, 3: reference';
COMMENT ON COLUMN passages.live_until IS 'When the fact was superseded; NULL while it is current';
COMMENT ON COLUMN passages.weights IS 'BM25 weight of each term (term frequency and length part), by term_id(lexeme)';

CREATE TABLE term_statistics (
    tenant_id  text COLLATE "C" NOT NULL,
    kind       smallint NOT NULL,
    term       integer NOT NULL,
    passages   bigint NOT NULL,
    CONSTRAINT term_statistics_pkey PRIMARY KEY (tenant_id, kind, term)
) WITH (fillfactor = 70);
COMMENT ON TABLE term_statistics IS 'In how many passages a term stands, for the inverse document frequency';

CREATE TABLE corpus_statistics (
    tenant_id     text COLLATE "C" NOT NULL,
    kind          smallint NOT NULL,
    passages      bigint NOT NULL DEFAULT 0,
    total_length  bigint NOT NULL DEFAULT 0,
    CONSTRAINT corpus_statistics_pkey PRIMARY KEY (tenant_id, kind)
) WITH (fillfactor = 50);

CREATE TABLE embedding_models (
    tenant_id   text COLLATE "C" NOT NULL,
    model_id    integer NOT NULL,
    name        text NOT NULL,
    dims        integer NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT embedding_models_pkey PRIMARY KEY (tenant_id, model_id)
);
CREATE UNIQUE INDEX embedding_models_name_key ON embedding_models (tenant_id, name);
COMMENT ON TABLE embedding_models IS 'The vector spaces in use; vectors of two models are never compared';

CREATE TABLE embeddings (
    tenant_id   text COLLATE "C" NOT NULL,
    model_id    integer NOT NULL,
    passage_id  uuid NOT NULL,
    vector      halfvec NOT NULL,
    CONSTRAINT embeddings_pkey PRIMARY KEY (tenant_id, model_id, passage_id),
    CONSTRAINT embeddings_model_fkey FOREIGN KEY (tenant_id, model_id)
        REFERENCES embedding_models (tenant_id, model_id) ON DELETE CASCADE,
    CONSTRAINT embeddings_passage_fkey FOREIGN KEY (tenant_id, passage_id)
        REFERENCES passages (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX embeddings_passage_idx ON embeddings (tenant_id, passage_id);

CREATE TABLE index_queue (
    tenant_id  text COLLATE "C" NOT NULL,
    kind       smallint NOT NULL,
    item       text COLLATE "C" NOT NULL,
    CONSTRAINT index_queue_pkey PRIMARY KEY (tenant_id, kind, item)
);
COMMENT ON TABLE index_queue IS 'What is stored but not yet in the search index: threads with new messages, memories, chunks';

CREATE TABLE embedding_queue (
    tenant_id   text COLLATE "C" NOT NULL,
    model_id    integer NOT NULL,
    passage_id  uuid NOT NULL,
    CONSTRAINT embedding_queue_pkey PRIMARY KEY (tenant_id, model_id, passage_id),
    CONSTRAINT embedding_queue_model_fkey FOREIGN KEY (tenant_id, model_id)
        REFERENCES embedding_models (tenant_id, model_id) ON DELETE CASCADE,
    CONSTRAINT embedding_queue_passage_fkey FOREIGN KEY (tenant_id, passage_id)
        REFERENCES passages (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX embedding_queue_passage_idx ON embedding_queue (tenant_id, passage_id);
COMMENT ON TABLE embedding_queue IS 'Passages that are found by words and wait for their vector';
"""

AGENT = """
CREATE TABLE working_memory (
    tenant_id   text COLLATE "C" NOT NULL,
    scope       text NOT NULL,
    scope_id    text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    content     text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT working_memory_pkey PRIMARY KEY (tenant_id, scope, scope_id, version),
    CONSTRAINT working_memory_scope_check CHECK (scope IN ('chat', 'user'))
);

CREATE TABLE user_memory (
    tenant_id   text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    content     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_memory_pkey PRIMARY KEY (tenant_id, user_id, version)
);
COMMENT ON TABLE user_memory IS 'The one summary of a user, every version; created_at is that of the first';

CREATE TABLE agent_settings (
    tenant_id   text COLLATE "C" NOT NULL,
    scope       text NOT NULL,
    scope_id    text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    value       jsonb NOT NULL,
    valid_from  timestamptz NOT NULL DEFAULT clock_timestamp(),
    set_by      text,
    reason      text,
    CONSTRAINT agent_settings_pkey PRIMARY KEY (tenant_id, scope, scope_id, name, version),
    CONSTRAINT agent_settings_scope_check CHECK (scope IN ('tenant', 'agent', 'user', 'thread'))
);
CREATE INDEX agent_settings_time_idx ON agent_settings (tenant_id, scope, scope_id, name, valid_from);
"""

# BEGIN ATOMIC binds every name when the function is made, so that the caller's search path
# does not matter; a trigger function names the schema of its table. Signs of scripts written
# without spaces are taken one by one. A tsvector holds a megabyte: of a longer text the first
# 100,000 characters are found by words. Whatever deletes a passage, the trigger keeps the
# statistics of its words true.
FUNCTIONS = """
CREATE FUNCTION term_id(lexeme text) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT (get_byte(h, 0) << 20 | get_byte(h, 1) << 12 | get_byte(h, 2) << 4 | get_byte(h, 3) >> 4) + 1
    FROM (SELECT sha256(convert_to(lexeme, 'UTF8')) AS h) AS digest;
END;

CREATE FUNCTION words(language regconfig, content text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT to_tsvector(language, regexp_replace(left(content, 100000),
        '([\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff\\u3040-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff])',
        ' \\1 ', 'g'));
END;

CREATE FUNCTION words_length(lexemes tsvector) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(sum(coalesce(cardinality(positions), 1)), 0)::integer FROM unnest(lexemes);
END;

CREATE FUNCTION words_weights(lexemes tsvector, average_length real, k1 real DEFAULT 0.9, b real DEFAULT 0.4)
RETURNS sparsevec LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH passage AS MATERIALIZED (SELECT k1 * (1 - b + b * words_length(lexemes) / average_length) AS norm),
    frequencies AS (
        SELECT term_id(lexeme) AS term, coalesce(cardinality(positions), 1)::real AS tf FROM unnest(lexemes)
    ), weighted AS (
        SELECT term, max((tf * (k1 + 1) / (tf + norm))::real) AS weight FROM frequencies, passage GROUP BY term
    )
    SELECT ('{' || coalesce(string_agg(term || ':' || weight, ',' ORDER BY term), '') || '}/268435456')::sparsevec
    FROM weighted;
END;

CREATE FUNCTION passages_gone() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE format('INSERT INTO %1$I.term_statistics AS t (tenant_id, kind, term, passages)
        SELECT tenant_id, kind, %1$I.term_id(lexeme), -count(DISTINCT id) FROM gone, unnest(lexemes)
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (tenant_id, kind, term) DO UPDATE SET passages = greatest(0, t.passages + excluded.passages)',
        tg_table_schema);
    EXECUTE format('INSERT INTO %1$I.corpus_statistics AS c (tenant_id, kind, passages, total_length)
        SELECT tenant_id, kind, -count(*), -sum(length) FROM gone GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (tenant_id, kind) DO UPDATE
        SET passages = greatest(0, c.passages + excluded.passages),
            total_length = greatest(0, c.total_length + excluded.total_length)', tg_table_schema);
    RETURN NULL;
END $body$;

CREATE TRIGGER passages_gone AFTER DELETE ON passages
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION passages_gone();
"""

TABLES = (
    "agent_settings", "user_memory", "working_memory",
    "embedding_queue", "index_queue", "embeddings", "embedding_models",
    "corpus_statistics", "term_statistics", "passages",
    "chunk_places", "chunks", "document_versions", "documents",
    "memories", "checkpoint_writes", "checkpoint_blobs", "checkpoints", "messages", "conversations",
)  # fmt: skip


def upgrade() -> None:
    """Create every table, index and function of the store."""
    for block in (CONVERSATIONS, CHECKPOINTS, MEMORIES, REFERENCES, SEARCH, AGENT):
        for statement in block.split(";\n"):
            if statement.strip():
                op.execute(statement)
    for statement in FUNCTIONS.split("\n\n"):
        op.execute(statement)


def downgrade() -> None:
    """Drop the functions and tables of the store, and nothing else that is in the schema."""
    op.execute("DROP TRIGGER passages_gone ON passages")
    op.execute("DROP FUNCTION passages_gone()")
    op.execute("DROP FUNCTION words_weights(tsvector, real, real, real)")
    op.execute("DROP FUNCTION words_length(tsvector)")
    op.execute("DROP FUNCTION words(regconfig, text)")
    op.execute("DROP FUNCTION term_id(text)")
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
