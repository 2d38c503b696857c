"""Rows of one tenant that no other tenant's session can see, and what was measured since.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The number of a term, see term_id(...), as an expression: a function, called for each word, takes most of the time.
A_TERM = "('x' || left(encode(sha256(convert_to(lexeme, 'UTF8')), 'hex'), 7))::bit(28)::integer + 1"

TABLES = (
    "agent_settings",
    "checkpoint_blobs",
    "checkpoint_writes",
    "checkpoints",
    "chunk_places",
    "chunks",
    "conversations",
    "corpus_statistics",
    "document_versions",
    "documents",
    "embedding_models",
    "embedding_queue",
    "embeddings",
    "feedback",
    "forgotten_users",
    "index_queue",
    "listeners",
    "memories",
    "messages",
    "passages",
    "proposals",
    "search_languages",
    "shared_conversations",
    "term_statistics",
    "tokens",
    "user_memory",
    "working_memory",
)
VIEWS = ("conversation_messages", "conversation_tool_calls", "conversation_turns")

# Under row security a condition whose operator might tell what it compared, as @>, @@ and those of arrays, is tried on
# the tenant's rows only after all of them were read. A view of them takes it to the index; it looks with the rights
# of the owner, and compares the tenant itself. It must not be one that PostgreSQL calls a security barrier.
SEEN_TABLES = ("checkpoints", "conversations", "memories", "passages")

# Every table is changed, while other sessions may use them in any order. Whoever waits for one lock with another in
# hand gives all of them back before the server would call it a deadlock and end somebody's statement.
LOCKS = """
DO $do$
DECLARE
    patience text := current_setting('lock_timeout');
    latest timestamptz := clock_timestamp() + interval '2 minutes';
BEGIN
    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '300ms', true);
            LOCK TABLE $TABLES IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', patience, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() > latest THEN
                RAISE;
            END IF;
            PERFORM pg_sleep(0.05 + 0.2 * random());
        END;
    END LOOP;
END $do$
""".replace("$TABLES", ", ".join(TABLES))

# The role is of the whole server: other databases may have made it, and may use it after this one is gone.
# Without the right to make roles the store works as before, and says so when it is opened.
ROLE = """
DO $do$
DECLARE
    membership text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    name text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'memory_app') THEN
        BEGIN
            CREATE ROLE memory_app NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'this login may not make the role memory_app: row security holds for no one yet';
                RETURN;
        END;
    END IF;
    IF NOT pg_has_role(session_user, 'memory_app', membership) THEN
        BEGIN
            EXECUTE format('GRANT memory_app TO %I', session_user);
        EXCEPTION
            WHEN insufficient_privilege OR unique_violation THEN NULL;
        END;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO memory_app', current_schema());
    FOREACH name IN ARRAY array[$TABLES] LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO memory_app', name);
    END LOOP;
    FOREACH name IN ARRAY array[$VIEWS] || text 'alembic_version' LOOP
        EXECUTE format('GRANT SELECT ON %I TO memory_app', name);
    END LOOP;
END $do$
""".replace("$TABLES", ", ".join(f"'{name}'" for name in (*TABLES, *(f"seen_{name}" for name in SEEN_TABLES)))).replace(
    "$VIEWS", ", ".join(f"'{name}'" for name in VIEWS)
)

NO_ROLE = """
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'memory_app') THEN
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM memory_app', current_schema());
        EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM memory_app', current_schema());
    END IF;
END $do$
"""

# Stores made from printed statements have two functions with each percent sign twice: they fail when they run.
REPAIR = """
DO $do$
DECLARE
    broken text;
BEGIN
    FOR broken IN
        SELECT pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = to_regnamespace(quote_ident(current_schema())) AND proname IN ('passages_gone', 'conversation_hides')
          AND strpos(prosrc, repeat(chr(37), 2) || '1$I') > 0
    LOOP
        EXECUTE replace(broken, repeat(chr(37), 2) || '1$I', chr(37) || '1$I');
    END LOOP;
END $do$
"""

# A session that was told no tenant sees nothing. Owners and superusers see everything: migrations and dumps need it.
SEEN = "tenant_id = current_setting('memory.tenant', true)"

# Who a function works for that runs as its owner, where no policy holds. Every such function passes its tenant
# through here before it reads or writes a row: it gets it back only from a session that sees that tenant's rows, or
# from one that was told none and may see all.
CHECKED_TENANT = """
CREATE FUNCTION checked_tenant(of_tenant text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE
        WHEN current_setting('memory.tenant', true) = of_tenant THEN of_tenant
        WHEN coalesce(current_setting('memory.tenant', true), '') = '' AND current_setting('role') = 'none'
             AND pg_has_role(session_user, current_user, 'USAGE') THEN of_tenant
    END;
END
"""

# A put is a dozen statements, each of which would look at the policy: its function looks once.
PUT_AS_OWNER = """
DO $do$
DECLARE
    put regprocedure := to_regprocedure(quote_ident(current_schema()) || '.put_checkpoints(text, jsonb, text[], bytea)');
BEGIN
    EXECUTE replace(pg_get_functiondef(put), E'BEGIN\\n    FOR place',
                    E'BEGIN\\n    of_tenant := checked_tenant(of_tenant);\\n    FOR place');
    EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', put);
END $do$
"""
PUT_AS_CALLER = """
DO $do$
DECLARE
    put regprocedure := to_regprocedure(quote_ident(current_schema()) || '.put_checkpoints(text, jsonb, text[], bytea)');
BEGIN
    EXECUTE replace(pg_get_functiondef(put), E'    of_tenant := checked_tenant(of_tenant);\\n', '');
    EXECUTE format('ALTER FUNCTION %s SECURITY INVOKER', put);
END $do$
"""

# Words meet without their accents. A stemmer goes by them (préférée, Häuser), and whoever leaves them out writes
# what it would stem otherwise (resume): so a word with accents stands in the index in two forms where these differ,
# as its language has it and as it would be without them; both lose their accents then. Only those of Latin letters
# go: й is a letter of its own. Without any, a text costs one look more than before.
ACCENTED = r"[\u00c0-\u024f\u1e00-\u1eff]|[A-Za-z][\u0300-\u036f]"
UNACCENTED = (
    r"translate(replace(replace(replace(normalize(regexp_replace(normalize({}, NFD),"
    r" '([A-Za-z])[\u0300-\u036f]+', '\1', 'g'), NFC), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'),"
    " 'łŁøØđĐħĦı', 'lLoOdDhHi')"
)
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
SPACED_WORDS = f"""
    SELECT CASE WHEN plain ~ '[{UNSPACED}]'
        THEN to_tsvector(language, regexp_replace(plain, '([{UNSPACED}])', ' \\1 ', 'g'))
             || to_tsvector('simple', regexp_replace(regexp_replace(signs, '([{UNSPACED}]{{2}})', ' \\1 ', 'g'),
                                                     '(^| )[{UNSPACED}](?= |$)', ' ', 'g'))
             || to_tsvector('simple', regexp_replace(
                    regexp_replace(regexp_replace(signs, '(^| )[{UNSPACED}]', ' ', 'g'), '([{UNSPACED}]{{2}})', ' \\1 ', 'g'),
                    '(^| )[{UNSPACED}](?= |$)', ' ', 'g'))
        ELSE to_tsvector(language, plain) END
    FROM (SELECT plain, regexp_replace(plain, '[^{UNSPACED}]+', ' ', 'g') AS signs
          FROM (SELECT left(content, 100000) AS plain) AS first) AS cut;
"""
PLAIN_WORDS = f"""
CREATE FUNCTION plain_words(language regconfig, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC{SPACED_WORDS}END
"""
# the positions say which words of the second form are no stop words in the first
FOLDED_WORDS = f"""
CREATE FUNCTION folded_words(language regconfig, content text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $body$
DECLARE
    whole text := regexp_replace(normalize(left(content, 100000), NFC), '[\\u0300-\\u036f]+', '', 'g');
    own tsvector := plain_words(language, whole);
    plain tsvector := plain_words(language, {UNACCENTED.format("whole")});
BEGIN
    own := ({UNACCENTED.format("own::text")})::tsvector;
    IF own = plain THEN
        RETURN own;
    END IF;
    RETURN (
        SELECT coalesce(string_agg('''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || ''':'
                                   || places, ' '), '')::tsvector
        FROM (
            SELECT lexeme, string_agg(at::text, ',') AS places FROM (
                SELECT lexeme, at FROM unnest(own) AS u, unnest(positions) AS at
                UNION
                SELECT lexeme, at FROM unnest(plain) AS u, unnest(positions) AS at
                WHERE at IN (SELECT unnest(positions) FROM unnest(own) AS u)
            ) AS each GROUP BY lexeme
        ) AS together);
END $body$
"""
WORDS = f"""
CREATE OR REPLACE FUNCTION words(language regconfig, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN content ~ '{ACCENTED}' THEN folded_words(language, content)
                ELSE plain_words(language, content) END;
END
"""
WORDS_BEFORE = f"""
CREATE OR REPLACE FUNCTION words(language regconfig, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC{SPACED_WORDS}END
"""
# A text is in that language of the tenant which knows the most of its words as stop words, the first of equals. A
# word that stands in two forms is one word.
WORDS_OF = """
CREATE OR REPLACE FUNCTION words_of(languages text[], content text) RETURNS tsvector
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN cardinality(languages) = 1 THEN words(languages[1]::regconfig, content) ELSE (
        SELECT w FROM unnest(languages) WITH ORDINALITY AS l (name, place), LATERAL words(l.name::regconfig, content) AS w
        ORDER BY {said}, place LIMIT 1) END;
END
"""
QUERY_WORDS_BEFORE = """
CREATE OR REPLACE FUNCTION query_words(languages text[], question text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH read AS MATERIALIZED (
        SELECT place, words(name::regconfig, question) AS w FROM unnest(languages) WITH ORDINALITY AS l (name, place)
    ), kept AS (
        SELECT at FROM (SELECT w FROM read ORDER BY words_length(w), place LIMIT 1) AS own, unnest(own.w) AS u,
             unnest(u.positions) AS at
    )
    SELECT DISTINCT u.lexeme FROM read, unnest(read.w) AS u
    WHERE EXISTS (SELECT FROM unnest(u.positions) AS at WHERE at IN (SELECT at FROM kept));
END
"""
# the same, with plans that are kept: most tenants have one language, and ask for its words with every search
QUERY_WORDS = """
CREATE OR REPLACE FUNCTION query_words(languages text[], question text) RETURNS SETOF text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE ROWS 10 SET search_path FROM CURRENT AS $body$
BEGIN
    IF cardinality(languages) = 1 THEN
        RETURN QUERY SELECT unnest(tsvector_to_array(words(languages[1]::regconfig, question)));
        RETURN;
    END IF;
    RETURN QUERY
    WITH read AS MATERIALIZED (
        SELECT place, words(name::regconfig, question) AS w FROM unnest(languages) WITH ORDINALITY AS l (name, place)
    ), kept AS (
        SELECT at FROM (SELECT w FROM read ORDER BY {said}, place LIMIT 1) AS own, unnest(own.w) AS u,
             unnest(u.positions) AS at
    )
    SELECT DISTINCT u.lexeme FROM read, unnest(read.w) AS u
    WHERE EXISTS (SELECT FROM unnest(u.positions) AS at WHERE at IN (SELECT at FROM kept));
END $body$
"""
SAID = "(SELECT count(DISTINCT at) FROM unnest(w) AS u, unnest(u.positions) AS at)"
SAID_BEFORE = "words_length(w)"

# What is stored already loses its accents here; the second forms of its words come with `memory-plugin reindex
# --words`, for the languages of a tenant are known to the programs alone. A downgrade leaves it so.
FOLD_STORED = f"""
DO $body$
DECLARE
    tenants text[];
BEGIN
    WITH accented AS MATERIALIZED (
        SELECT tenant_id, id, kind, ({UNACCENTED.format("lexemes::text")})::tsvector AS lexemes
        FROM passages WHERE lexemes::text ~ '{ACCENTED}'
    ), folded AS (
        UPDATE passages p
        SET lexemes = a.lexemes, keys = term_keys(a.tenant_id, a.kind, a.lexemes),
            weights = words_weights(a.lexemes, CASE a.kind WHEN 1 THEN 12 WHEN 2 THEN 16 ELSE 100 END)
        FROM accented a WHERE p.tenant_id = a.tenant_id AND p.id = a.id
        RETURNING p.tenant_id
    )
    SELECT array_agg(DISTINCT tenant_id) INTO tenants FROM folded;
    DELETE FROM term_statistics WHERE tenant_id = ANY (tenants);
    INSERT INTO term_statistics (tenant_id, kind, term, passages)
    SELECT tenant_id, kind, term_id(lexeme), count(DISTINCT id) FROM passages, unnest(lexemes)
    WHERE tenant_id = ANY (tenants) GROUP BY 1, 2, 3;
END $body$
"""

# The passages of one kind with one of the keys, the best by a question's words first. Who sees few has all of them
# looked at; of others the index of words leads to those with a key, by itself: beside it, the planner would gather
# every passage of the tenant from another index. Both plans hold whatever is known about the tables.
FOUND_BY_WORDS = """
CREATE FUNCTION found_by_words(
    of_tenant text, of_kind smallint, matching integer[], query sparsevec, wanted integer, of_user text,
    or_nobody boolean, of_thread text, since timestamptz, until timestamptz, as_of timestamptz
) RETURNS TABLE (id uuid, score float8)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $body$
#variable_conflict use_column
DECLARE
    few CONSTANT integer := 3000;
    seen integer;
BEGIN
    of_tenant := checked_tenant(of_tenant);
    IF of_user IS NOT NULL THEN
        SELECT count(*) INTO seen FROM (
            (SELECT FROM passages p WHERE p.tenant_id = of_tenant AND p.kind = of_kind AND p.user_id = of_user
             LIMIT few + 1)
            UNION ALL
            (SELECT FROM passages p WHERE or_nobody AND p.tenant_id = of_tenant AND p.kind = of_kind
             AND p.user_id IS NULL LIMIT few + 1)) AS own;
    END IF;
    IF seen <= few THEN
        RETURN QUERY
        SELECT p.id, -(p.weights <#> query) FROM (
            (SELECT id, thread_id, said_at, live_until, keys, weights FROM passages p
             WHERE p.tenant_id = of_tenant AND p.kind = of_kind AND p.user_id = of_user OFFSET 0)
            UNION ALL
            (SELECT id, thread_id, said_at, live_until, keys, weights FROM passages p
             WHERE or_nobody AND p.tenant_id = of_tenant AND p.kind = of_kind AND p.user_id IS NULL OFFSET 0)
        ) AS p
        WHERE p.keys && matching AND {seen}
        ORDER BY p.weights <#> query, p.id LIMIT wanted;
    ELSE
        RETURN QUERY
        SELECT p.id, -(p.weights <#> query) FROM (
            SELECT tenant_id, id, kind, user_id, thread_id, said_at, live_until, weights FROM passages p
            WHERE p.keys && matching OFFSET 0) AS p
        WHERE p.tenant_id = of_tenant AND p.kind = of_kind
          AND (of_user IS NULL OR p.user_id = of_user OR or_nobody AND p.user_id IS NULL) AND {seen}
        ORDER BY p.weights <#> query, p.id LIMIT wanted;
    END IF;
END $body$
""".replace(
    "{seen}",
    "(of_thread IS NULL OR p.thread_id = of_thread) AND (since IS NULL OR p.said_at >= since)"
    " AND (until IS NULL OR p.said_at < until) AND (as_of IS NULL AND p.live_until IS NULL"
    " OR p.said_at <= as_of AND (p.live_until IS NULL OR p.live_until > as_of))",
)
# The names among the given ones that somebody's name begins with who speaks there, with that name.
SPEAKERS_NAMED = """
CREATE FUNCTION speakers_named(of_tenant text, names text[], of_user text, of_thread text)
RETURNS TABLE (name text, speaker text)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 2
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $body$
#variable_conflict use_column
BEGIN
    of_tenant := checked_tenant(of_tenant);
    IF of_user IS NOT NULL THEN
        RETURN QUERY
        SELECT given.name, found.speaker FROM unnest(names) AS given (name), LATERAL (
            SELECT p.speaker FROM passages p
            WHERE p.tenant_id = of_tenant AND lower(split_part(p.speaker, ' ', 1)) = lower(given.name)
              AND p.user_id = of_user AND p.kind = 2 AND p.speaker <> ALL (ARRAY['human', 'ai', 'tool', 'system'])
              AND (of_thread IS NULL OR p.thread_id = of_thread) AND p.live_until IS NULL LIMIT 1) AS found;
    ELSE
        RETURN QUERY
        SELECT given.name, found.speaker FROM unnest(names) AS given (name), LATERAL (
            SELECT p.speaker FROM passages p
            WHERE p.tenant_id = of_tenant AND lower(split_part(p.speaker, ' ', 1)) = lower(given.name)
              AND p.kind = 2 AND p.speaker <> ALL (ARRAY['human', 'ai', 'tool', 'system'])
              AND (of_thread IS NULL OR p.thread_id = of_thread) AND p.live_until IS NULL LIMIT 1) AS found;
    END IF;
END $body$
"""

# The current row of an item, which may have expired. An array is compared by no index where rows are kept apart by
# policies, so whoever knows an item by its namespace and key asks here.
CURRENT_ROW = """
CREATE FUNCTION current_row(of_tenant text, of_namespace text[], of_key text) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $body$
BEGIN
    of_tenant := checked_tenant(of_tenant);
    RETURN (SELECT m.id FROM memories m
            WHERE m.tenant_id = of_tenant AND m.namespace = of_namespace AND m.key = of_key
              AND m.superseded_at IS NULL LIMIT 1);
END $body$
"""
# The facts of a namespace that may say nearly the same as a text: some that share one of its rarest words, and of
# those that the index has not taken yet the newest.
FACTS_NEAR = """
CREATE FUNCTION facts_near(
    of_tenant text, languages text[], said text, of_namespace text[], of_user text, rarest integer, common integer,
    candidates integer, fresh integer
) RETURNS TABLE (item_id uuid, key text, content text)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 30
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $body$
#variable_conflict use_column
DECLARE
    matching integer[];
    rows uuid[];
BEGIN
    of_tenant := checked_tenant(of_tenant);
    SELECT array_agg(terms.term # salt.key) INTO matching FROM (
        SELECT words.term, coalesce(known.passages, 0) AS passages
        FROM (SELECT lexeme, {a_term} AS term FROM query_words(languages, said) AS lexeme) AS words
        LEFT JOIN LATERAL (
            SELECT passages FROM term_statistics s
            WHERE s.tenant_id = of_tenant AND s.kind = 1 AND s.term = words.term LIMIT 1) AS known ON true
        ORDER BY 2, lexeme LIMIT rarest) AS terms,
        (SELECT (term_id(of_tenant) << 4) # 1 AS key OFFSET 0) AS salt
    WHERE terms.passages <= common;
    rows := ARRAY(
        SELECT p.id FROM (
            SELECT tenant_id, id, kind, user_id, live_until FROM passages WHERE keys && matching OFFSET 0) AS p
        WHERE p.tenant_id = of_tenant AND p.kind = 1 AND p.live_until IS NULL
          AND p.user_id IS NOT DISTINCT FROM of_user
        LIMIT candidates
    ) || ARRAY(
        SELECT q.item::uuid FROM index_queue q WHERE q.tenant_id = of_tenant AND q.kind = 1
        ORDER BY q.item DESC LIMIT fresh);
    RETURN QUERY
    SELECT m.item_id, m.key, m.content FROM memories m
    WHERE m.tenant_id = of_tenant AND m.id = ANY (rows) AND m.namespace = of_namespace
      AND coalesce(m.superseded_at, 'infinity') = 'infinity' AND (m.expires_at IS NULL OR m.expires_at > now());
END $body$
""".replace("{a_term}", A_TERM)
# forwards, and what takes it back (None where dropping something else does)
STEPS: tuple[tuple[str | None, str | None], ...] = (
    (LOCKS, None),
    (CHECKED_TENANT, "DROP FUNCTION checked_tenant(text)"),
    (PLAIN_WORDS, "DROP FUNCTION plain_words(regconfig, text)"),
    (FOLDED_WORDS, "DROP FUNCTION folded_words(regconfig, text)"),
    (WORDS, WORDS_BEFORE),
    (WORDS_OF.replace("{said}", SAID), WORDS_OF.replace("{said}", SAID_BEFORE)),
    (QUERY_WORDS.replace("{said}", SAID), QUERY_WORDS_BEFORE),
    (FOLD_STORED, None),
    (FOUND_BY_WORDS, "DROP FUNCTION found_by_words"),
    (SPEAKERS_NAMED, "DROP FUNCTION speakers_named(text, text[], text, text)"),
    (CURRENT_ROW, "DROP FUNCTION current_row(text, text[], text)"),
    (FACTS_NEAR, "DROP FUNCTION facts_near"),
    *(
        (f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY", f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")
        for name in TABLES
    ),
    *((f"CREATE POLICY tenant_rows ON {name} USING ({SEEN})", f"DROP POLICY tenant_rows ON {name}") for name in TABLES),
    # a view looks with the rights of its owner otherwise
    *(
        (f"ALTER VIEW {name} SET (security_invoker = true)", f"ALTER VIEW {name} RESET (security_invoker)")
        for name in VIEWS
    ),
    *(
        (f"CREATE VIEW seen_{name} AS SELECT * FROM {name} WHERE {SEEN} WITH CHECK OPTION", f"DROP VIEW seen_{name}")
        for name in SEEN_TABLES
    ),
    (PUT_AS_OWNER, PUT_AS_CALLER),
    (ROLE, NO_ROLE),
    (REPAIR, None),
    (None, LOCKS),
)


def upgrade() -> None:
    """Go forwards."""
    for forwards, _ in STEPS:
        if forwards is not None:
            op.execute(forwards)


def downgrade() -> None:
    """Take back what `upgrade` made, and nothing else."""
    for _, backwards in reversed(STEPS):
        if backwards is not None:
            op.execute(backwards)
