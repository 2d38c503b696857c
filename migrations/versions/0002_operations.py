"""What operators need: a thread's own retention, and forgetting that can be undone.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Passages of a hidden thread are live until before any time, so that no search finds them, at any `as_of`.
HIDES = """
CREATE FUNCTION conversation_hides() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE format('UPDATE %1$I.passages SET live_until = CASE WHEN $1 THEN ''-infinity''::timestamptz END
        WHERE tenant_id = $2 AND thread_id = $3 AND kind = 2', tg_table_schema)
    USING new.forgotten_at IS NOT NULL, new.tenant_id, new.thread_id;
    RETURN NULL;
END $body$
"""

# Stores any number of checkpoints, each with its messages and values, in one call; what a put carries is
# said in memory_plugin/capabilities/checkpoint_put.py. It answers for each the number before its first new
# message, -1 where it was stored before, -2 where something it lives on is gone (then it writes nothing).
#
# It locks the conversation first, as every deletion does, and looks only then, each statement with a view
# of its own: so no checkpoint can ever point at rows that a deletion has taken away, however the two meet.
PUT_CHECKPOINTS = """
CREATE FUNCTION put_checkpoints(of_tenant text, puts jsonb, texts text[], bytes bytea) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $body$
DECLARE
    put jsonb;
    one jsonb;
    of_thread text;
    of_ns text;
    of_id text;
    of_user text;
    said integer;
    kept integer;
    new_length bigint;
    seen bigint;
    refs jsonb;
    stored boolean;
    whole boolean;
    older boolean;
    appended bigint;
    t integer := 0;
BEGIN
    FOR place IN 0 .. jsonb_array_length(puts) - 1 LOOP
        t := t + 2 * coalesce(said, 0) + coalesce(kept, 0);
        put := puts -> place;
        of_thread := put ->> 't';
        of_ns := put ->> 'n';
        of_id := put ->> 'i';
        of_user := put ->> 'u';
        said := coalesce(jsonb_array_length(put -> 's'), 0);
        kept := coalesce(jsonb_array_length(put -> 'b'), 0);
        new_length := (put -> 'l')::bigint;

        IF put ? 'k' THEN
            SELECT message_seq INTO seen FROM conversations
            WHERE tenant_id = of_tenant AND thread_id = of_thread FOR NO KEY UPDATE;
        ELSE
            SELECT 0 INTO seen FROM conversations
            WHERE tenant_id = of_tenant AND thread_id = of_thread FOR KEY SHARE;
        END IF;
        WHILE seen IS NULL LOOP
            EXIT WHEN put ? 'a' OR put ? 'e';
            INSERT INTO conversations (tenant_id, thread_id, user_id) VALUES (of_tenant, of_thread, of_user)
            ON CONFLICT (tenant_id, thread_id) DO NOTHING;
            SELECT message_seq INTO seen FROM conversations
            WHERE tenant_id = of_tenant AND thread_id = of_thread FOR NO KEY UPDATE;
        END LOOP;

        SELECT put ? 'q' AND EXISTS (
                   SELECT FROM checkpoints
                   WHERE tenant_id = of_tenant AND thread_id = of_thread AND checkpoint_ns = of_ns
                     AND checkpoint_id = of_id AND versions @> (put -> 'q')),
               seen IS NOT NULL AND (NOT put ? 'a' OR EXISTS (
                   SELECT FROM checkpoints
                   WHERE tenant_id = of_tenant AND thread_id = of_thread AND checkpoint_ns = put #>> '{a,0}'
                     AND checkpoint_id = put #>> '{a,1}')),
               new_length IS NOT NULL AND EXISTS (
                   SELECT FROM checkpoints
                   WHERE tenant_id = of_tenant AND thread_id = of_thread AND checkpoint_ns = ''
                     AND checkpoint_id > of_id),
               CASE WHEN new_length IS NOT NULL THEN (
                   SELECT count(*) FROM messages
                   WHERE tenant_id = of_tenant AND thread_id = of_thread AND origin = 1) END
        INTO stored, whole, older, appended;
        IF stored THEN
            RETURN NEXT -1;
            CONTINUE;
        END IF;
        IF whole AND put ? 'e' THEN
            SELECT count(*) = jsonb_array_length(put -> 'e') INTO whole FROM messages
            WHERE tenant_id = of_tenant AND thread_id = of_thread
              AND seq = ANY (ARRAY(SELECT value::bigint FROM jsonb_array_elements_text(put -> 'e')));
        END IF;
        IF NOT whole THEN
            RETURN NEXT -2;
            CONTINUE;
        END IF;

        IF said = 1 THEN
            one := put #> '{s,0}';
            INSERT INTO messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, type, raw)
            VALUES (of_tenant, of_thread, seen + 1, (one ->> 0)::uuid, (one -> 1)::smallint, one ->> 2, one ->> 3,
                    one ->> 4, texts[t + 1], texts[t + 2]::jsonb, one ->> 5,
                    substring(bytes FROM (one -> 6)::integer FOR (one -> 7)::integer));
        ELSIF said > 1 THEN
            INSERT INTO messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, type, raw)
            SELECT of_tenant, of_thread, seen + o, (e ->> 0)::uuid, (e -> 1)::smallint, e ->> 2, e ->> 3, e ->> 4,
                   texts[t + 2 * o - 1], texts[t + 2 * o]::jsonb, e ->> 5,
                   substring(bytes FROM (e -> 6)::integer FOR (e -> 7)::integer)
            FROM jsonb_array_elements(put -> 's') WITH ORDINALITY AS said_now (e, o);
        END IF;
        FOR k IN 0 .. kept - 1 LOOP
            one := put -> 'b' -> k;
            INSERT INTO checkpoint_blobs AS b
                (tenant_id, thread_id, checkpoint_ns, channel, version, value, type, blob)
            SELECT of_tenant, of_thread, of_ns, one ->> 0, one ->> 1, texts[t + 2 * said + k + 1]::jsonb, one ->> 2,
                   substring(bytes FROM (one -> 4)::integer FOR (one -> 5)::integer)
            WHERE (one -> 3)::boolean OR NOT EXISTS (
                SELECT FROM checkpoint_blobs
                WHERE tenant_id = of_tenant AND thread_id = of_thread AND checkpoint_ns = of_ns
                  AND channel = one ->> 0 AND version = one ->> 1)
            ON CONFLICT (tenant_id, thread_id, checkpoint_ns, channel, version) DO UPDATE
            SET value = excluded.value, type = excluded.type, blob = excluded.blob
            WHERE (b.value, b.type, b.blob) IS DISTINCT FROM (excluded.value, excluded.type, excluded.blob);
        END LOOP;

        refs := put -> 'r';
        FOR k IN 0 .. coalesce(jsonb_array_length(put -> 'f'), 0) - 1 LOOP
            one := put -> 'f' -> k;
            refs := jsonb_set(refs, ARRAY[one ->> 0, one ->> 1],
                              jsonb_build_array(seen + (one -> 2)::bigint, seen + (one -> 3)::bigint));
        END LOOP;
        INSERT INTO checkpoints (tenant_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,
                                 checkpoint, versions, metadata, message_refs)
        VALUES (of_tenant, of_thread, of_ns, of_id, put ->> 'p', put -> 'c', put -> 'v', put -> 'm', refs)
        ON CONFLICT (tenant_id, thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
        SET parent_checkpoint_id = excluded.parent_checkpoint_id, checkpoint = excluded.checkpoint,
            versions = excluded.versions, metadata = excluded.metadata, message_refs = excluded.message_refs;

        IF put ? 'o' THEN
            UPDATE messages SET origin = 0
            WHERE tenant_id = of_tenant AND thread_id = of_thread
              AND seq = ANY (ARRAY(SELECT value::bigint FROM jsonb_array_elements_text(put -> 'o')));
        END IF;
        IF put ? 'k' THEN
            UPDATE conversations SET
                user_id = coalesce(user_id, of_user),
                message_seq = seen + said,
                message_count = CASE WHEN new_length IS NULL OR older THEN message_count
                                     ELSE new_length + appended END,
                indexed_seq = least(indexed_seq, (put -> 'w')::bigint),
                updated_at = CASE WHEN new_length IS NULL THEN updated_at ELSE now() END,
                active_hour = CASE WHEN new_length IS NULL THEN active_hour
                                   ELSE date_trunc('hour', now(), 'UTC') END,
                forgotten_at = NULL,
                messages_channel = coalesce(put ->> 'h', messages_channel),
                buffer_channels = coalesce(put -> 'g', buffer_channels),
                memory_buffer = CASE
                    WHEN NOT put ? 'd' THEN memory_buffer
                    ELSE nullif((coalesce(memory_buffer, '{}')
                                 - ARRAY(SELECT jsonb_array_elements_text(coalesce(buffer_channels, put -> 'g'))))
                                || (put -> 'd'),
                                CASE WHEN memory_buffer IS NULL THEN '{}'::jsonb END) END
            WHERE tenant_id = of_tenant AND thread_id = of_thread;
            IF new_length IS NOT NULL THEN
                INSERT INTO index_queue (tenant_id, kind, item) VALUES (of_tenant, 2, of_thread)
                ON CONFLICT DO NOTHING;
            END IF;
        ELSIF of_user IS NOT NULL THEN
            UPDATE conversations SET user_id = of_user
            WHERE tenant_id = of_tenant AND thread_id = of_thread AND user_id IS NULL;
        END IF;
        RETURN NEXT seen;
    END LOOP;
END $body$
"""

# A text without its accents; with built-in functions alone, as an index on an expression needs them.
FOLDED = (
    r"translate(replace(regexp_replace(normalize({}, NFD), '[\u0300-\u036f]+', '', 'g'), 'ß', 'ss'),"
    " 'łŁøØđĐħĦı', 'lLoOdDhHi')"
)

THREAD_WORDS = (
    r"to_tsvector('simple', regexp_replace(regexp_replace("
    + FOLDED.format("coalesce(title, '') || ' ' || thread_id")
    + r", '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', ' ', 'g'),"
    r" '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])',"
    r" ' \1 ', 'g'))"
)

# Signs of scripts that are written without spaces, one by one as before, and now their pairs as well: a pair
# says much more than either sign, and needs no dictionary. Text without such signs costs one look.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

WORDS = f"""
CREATE OR REPLACE FUNCTION words(language regconfig, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
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
END
"""

WORDS_BEFORE = f"""
CREATE OR REPLACE FUNCTION words(language regconfig, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT to_tsvector(language, regexp_replace(left(content, 100000), '([{UNSPACED}])', ' \\1 ', 'g'));
END
"""

# A text is in that language of the tenant which knows the most of its words as stop words, the first of equals.
WORDS_OF = """
CREATE FUNCTION words_of(languages text[], content text) RETURNS tsvector LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN cardinality(languages) = 1 THEN words(languages[1]::regconfig, content) ELSE (
        SELECT w FROM unnest(languages) WITH ORDINALITY AS l (name, place), LATERAL words(l.name::regconfig, content) AS w
        ORDER BY words_length(w), place LIMIT 1) END;
END
"""

# The words of a question that are no stop words in its own language, in the form each language gives them:
# every passage was indexed in one of them.
QUERY_WORDS = """
CREATE FUNCTION query_words(languages text[], question text) RETURNS SETOF text
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

# All shifts and ORs have one precedence, from left to right: without brackets, most of the digest fell off
# the end, and 65,536 numbers had to do for all words. What was made of them is made again.
TERM_ID = """
CREATE OR REPLACE FUNCTION term_id(lexeme text) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT {} + 1 FROM (SELECT sha256(convert_to(lexeme, 'UTF8')) AS h) AS digest;
END
"""
TERM_ID_NOW = TERM_ID.format(
    "((get_byte(h, 0) << 20) | (get_byte(h, 1) << 12) | (get_byte(h, 2) << 4) | (get_byte(h, 3) >> 4))"
)
TERM_ID_BEFORE = TERM_ID.format(
    "(get_byte(h, 0) << 20 | get_byte(h, 1) << 12 | get_byte(h, 2) << 4 | get_byte(h, 3) >> 4)"
)
WEIGHTS_AGAIN = """
UPDATE passages SET weights = words_weights(lexemes, CASE kind WHEN 1 THEN 12 WHEN 2 THEN 16 ELSE 100 END)
"""
# The same weights as before. The number of a term stands in it as an expression: a function of its own, called for
# each word, takes most of the time.
A_TERM = "('x' || left(encode(sha256(convert_to(lexeme, 'UTF8')), 'hex'), 7))::bit(28)::integer + 1"
WORDS_WEIGHTS = """
CREATE OR REPLACE FUNCTION words_weights(
    lexemes tsvector, average_length real, k1 real DEFAULT 0.9, b real DEFAULT 0.4
) RETURNS sparsevec LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT ('{' || coalesce(string_agg(term || ':' || weight, ',' ORDER BY term), '') || '}/268435456')::sparsevec
    FROM (
        SELECT {a_term} AS term,
               max((tf * (k1 + 1) / (tf + k1 * (1 - b + b * (length / average_length))))::real) AS weight
        FROM (
            SELECT lexeme, coalesce(cardinality(positions), 1)::real AS tf,
                   (sum(coalesce(cardinality(positions), 1)) OVER ())::integer AS length
            FROM unnest(lexemes)
        ) AS frequencies
        GROUP BY 1
    ) AS weighted;
END
""".replace("{a_term}", A_TERM)
WORDS_WEIGHTS_BEFORE = """
CREATE OR REPLACE FUNCTION words_weights(
    lexemes tsvector, average_length real, k1 real DEFAULT 0.9, b real DEFAULT 0.4
) RETURNS sparsevec LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH passage AS MATERIALIZED (SELECT k1 * (1 - b + b * words_length(lexemes) / average_length) AS norm),
    frequencies AS (
        SELECT term_id(lexeme) AS term, coalesce(cardinality(positions), 1)::real AS tf FROM unnest(lexemes)
    ), weighted AS (
        SELECT term, max((tf * (k1 + 1) / (tf + norm))::real) AS weight FROM frequencies, passage GROUP BY term
    )
    SELECT ('{' || coalesce(string_agg(term || ':' || weight, ',' ORDER BY term), '') || '}/268435456')::sparsevec
    FROM weighted;
END
"""
# What the index of words has for keys: a term of one tenant and kind. With the lexemes themselves, a search would
# go through the passages of all tenants that have a common word.
TERM_KEYS = """
CREATE FUNCTION term_keys(tenant_id text, kind smallint, lexemes tsvector) RETURNS integer[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(array_agg(({a_term}) # own.salt), '{}'::integer[])
    FROM unnest(lexemes), (SELECT (term_id(tenant_id) << 4) # kind::integer AS salt OFFSET 0) AS own;
END
""".replace("{a_term}", A_TERM)
WEIGHTS_AND_KEYS = """
UPDATE passages SET weights = words_weights(lexemes, CASE kind WHEN 1 THEN 12 WHEN 2 THEN 16 ELSE 100 END),
                    keys = term_keys(tenant_id, kind, lexemes)
"""
STATISTICS_AGAIN = """
INSERT INTO term_statistics (tenant_id, kind, term, passages)
SELECT tenant_id, kind, term_id(lexeme), count(DISTINCT id) FROM passages, unnest(lexemes) GROUP BY 1, 2, 3
"""

# The conversation as history shows it, and before that what the state had and was trimmed of: a summary that took
# the place of old messages does not unsay them. A message outside the state stands behind the last one of the
# state that came before it. What a fork said that was abandoned is not in it while the state reaches back before it.
CONVERSATION_MESSAGES = """
CREATE VIEW conversation_messages WITH (security_invoker = true) AS
SELECT tenant_id, thread_id, user_id, position, turn, seq, id, role, name, text, message_id, body, said_at
FROM (
    SELECT placed.*, count(*) FILTER (WHERE role = 'human' AND
               body #>> '{additional_kwargs,lc_source}' IS DISTINCT FROM 'summarization')
               OVER (PARTITION BY tenant_id, thread_id ORDER BY position) AS turn
    FROM (
        SELECT kept.*, row_number() OVER (PARTITION BY tenant_id, thread_id
                                          ORDER BY anchor, in_state DESC, seq) AS position
        FROM (
            SELECT said.*, place IS NOT NULL AS in_state,
                   coalesce((place << 40) + seq, max((place << 40) + seq)
                            OVER (PARTITION BY tenant_id, thread_id ORDER BY seq), 0) AS anchor
            FROM (
                SELECT m.tenant_id, m.thread_id, c.user_id, m.seq, m.id, m.origin, m.role, m.name, m.text,
                       m.message_id, m.body, m.said_at, state.place, latest.ranges, latest.first
                FROM conversations c
                LEFT JOIN LATERAL (
                    SELECT k.message_refs -> coalesce(c.messages_channel, 'messages') AS ranges,
                           (SELECT min((bounds ->> 0)::bigint) FROM jsonb_array_elements(
                                k.message_refs -> coalesce(c.messages_channel, 'messages')) AS bounds) AS first
                    FROM checkpoints k
                    WHERE k.tenant_id = c.tenant_id AND k.thread_id = c.thread_id AND k.checkpoint_ns = ''
                    ORDER BY k.checkpoint_id DESC LIMIT 1
                ) AS latest ON true
                JOIN messages m ON m.tenant_id = c.tenant_id AND m.thread_id = c.thread_id AND m.origin <> 2
                LEFT JOIN LATERAL (
                    SELECT range.place FROM jsonb_array_elements(latest.ranges) WITH ORDINALITY AS range (bounds, place)
                    WHERE m.seq >= (range.bounds ->> 0)::bigint AND m.seq < (range.bounds ->> 1)::bigint
                    ORDER BY range.place LIMIT 1
                ) AS state ON true
                WHERE c.forgotten_at IS NULL AND m.body IS NOT NULL
            ) AS said
        ) AS kept
        WHERE in_state OR origin = 1 OR first IS NULL OR seq < first
    ) AS placed
) AS numbered
"""

# From one person's words to the next: the question, the last answer, and what happened in between.
CONVERSATION_TURNS = """
CREATE VIEW conversation_turns WITH (security_invoker = true) AS
SELECT t.tenant_id, t.thread_id, t.user_id, t.turn, t.seq, t.message, t.query, t.answer, t.model, t.input_tokens,
       t.output_tokens, t.total_tokens,
       coalesce(ARRAY(SELECT DISTINCT call ->> 'name' FROM jsonb_path_query(t.calls, 'strict $[*][*]') AS call
                      WHERE call ->> 'name' IS NOT NULL ORDER BY 1), '{}') AS tools,
       t.tool_calls, t.tool_errors, t.asked_at, t.answered_at, t.answered_at - t.asked_at AS duration,
       f.outcome, f.score, f.comment
FROM (
    SELECT tenant_id, thread_id, user_id, turn,
           (array_agg(seq ORDER BY position) FILTER (WHERE role = 'human'))[1] AS seq,
           (array_agg(id ORDER BY position) FILTER (WHERE role = 'human'))[1] AS message,
           (array_agg(text ORDER BY position) FILTER (WHERE role = 'human'))[1] AS query,
           (array_agg(text ORDER BY position DESC) FILTER (WHERE role = 'ai' AND text <> ''))[1] AS answer,
           (array_agg(coalesce(body #>> '{response_metadata,model_name}', body #>> '{response_metadata,model}')
                      ORDER BY position DESC)
                FILTER (WHERE role = 'ai' AND coalesce(body #>> '{response_metadata,model_name}',
                                                       body #>> '{response_metadata,model}') IS NOT NULL))[1] AS model,
           sum(CASE jsonb_typeof(body #> '{usage_metadata,input_tokens}') WHEN 'number'
               THEN (body #> '{usage_metadata,input_tokens}')::bigint END)::bigint AS input_tokens,
           sum(CASE jsonb_typeof(body #> '{usage_metadata,output_tokens}') WHEN 'number'
               THEN (body #> '{usage_metadata,output_tokens}')::bigint END)::bigint AS output_tokens,
           sum(CASE jsonb_typeof(body #> '{usage_metadata,total_tokens}') WHEN 'number'
               THEN (body #> '{usage_metadata,total_tokens}')::bigint END)::bigint AS total_tokens,
           jsonb_agg(body -> 'tool_calls' ORDER BY position)
               FILTER (WHERE jsonb_typeof(body -> 'tool_calls') = 'array') AS calls,
           coalesce(sum(CASE jsonb_typeof(body -> 'tool_calls') WHEN 'array'
               THEN jsonb_array_length(body -> 'tool_calls') END), 0)::integer AS tool_calls,
           count(*) FILTER (WHERE role = 'tool' AND body ->> 'status' = 'error')::integer AS tool_errors,
           (array_agg(said_at ORDER BY position) FILTER (WHERE role = 'human'))[1] AS asked_at,
           max(said_at) FILTER (WHERE role = 'ai') AS answered_at
    FROM conversation_messages WHERE turn > 0
    GROUP BY tenant_id, thread_id, user_id, turn
) AS t
LEFT JOIN LATERAL (
    SELECT outcome, score, comment FROM feedback f
    WHERE f.tenant_id = t.tenant_id AND f.thread_id = t.thread_id AND f.message = t.message
    ORDER BY f.given_at DESC LIMIT 1
) AS f ON true
"""

# Calls that came back, each with the message that asked for it: the last one before the result, so that a call
# which a person edited shows what was run.
CONVERSATION_TOOL_CALLS = """
CREATE VIEW conversation_tool_calls WITH (security_invoker = true) AS
SELECT r.tenant_id, r.thread_id, c.user_id, call.seq, r.seq AS result_seq, r.body ->> 'tool_call_id' AS call_id,
       coalesce(call.value ->> 'name', r.name) AS tool, call.value -> 'args' AS arguments, r.text AS result,
       CASE r.body ->> 'status' WHEN 'error' THEN 'error' ELSE 'ok' END AS status,
       call.said_at AS called_at, r.said_at AS returned_at, r.said_at - call.said_at AS duration
FROM messages r
JOIN conversations c ON c.tenant_id = r.tenant_id AND c.thread_id = r.thread_id AND c.forgotten_at IS NULL
LEFT JOIN LATERAL (
    SELECT a.seq, a.said_at, given.value
    FROM messages a, jsonb_array_elements(
        CASE jsonb_typeof(a.body -> 'tool_calls') WHEN 'array' THEN a.body -> 'tool_calls' ELSE '[]' END) AS given
    WHERE a.tenant_id = r.tenant_id AND a.thread_id = r.thread_id AND a.seq < r.seq AND a.role = 'ai'
      AND given.value ->> 'id' = r.body ->> 'tool_call_id'
    ORDER BY a.seq DESC LIMIT 1
) AS call ON true
WHERE r.role = 'tool' AND r.origin <> 2 AND r.body IS NOT NULL
"""

# Tells the processes that listen what has changed; where nobody listens it costs one look into a small
# table, and NOTIFY, which makes commits wait for each other, is not called. Who hears it learns a
# hash: only one who knows an id already can know that it is meant.
TELLS = """
CREATE FUNCTION tell_listeners() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $body$
DECLARE
    changed record;
    fields jsonb;
    what text;
BEGIN
    IF tg_op = 'DELETE' THEN
        changed := old;
    ELSE
        changed := new;
    END IF;
    IF EXISTS (SELECT FROM listeners WHERE tenant_id = changed.tenant_id AND until > now()) THEN
        fields := to_jsonb(changed);
        FOREACH what IN ARRAY CASE tg_table_name
            WHEN 'working_memory' THEN ARRAY[concat('note ', fields ->> 'scope', ' ', fields ->> 'scope_id')]
            ELSE ARRAY[concat(tg_table_name, ' one ', fields ->> tg_argv[0]),
                       concat(tg_table_name, ' of ', fields ->> 'user_id'), concat(tg_table_name, ' all')]
        END LOOP
            PERFORM pg_notify('memory_changed', encode(sha256(convert_to(
                concat_ws(E'\\x1f', tg_table_schema, changed.tenant_id, what), 'UTF8')), 'hex'));
        END LOOP;
    END IF;
    RETURN NULL;
END $body$
"""


def _told(table: str, when: str, key: str, condition: str = "") -> tuple[str, str]:
    """A trigger that tells of the changes of a table."""
    event = when.split(maxsplit=1)[0].lower()
    name = f"{table}_tell_{event}"
    return (
        (
            f"CREATE TRIGGER {name} AFTER {when} ON {table} FOR EACH ROW {condition}"
            f"EXECUTE FUNCTION tell_listeners('{key}')"
        ),
        f"DROP TRIGGER {name} ON {table}",
    )


# (forwards, backwards); backwards in reverse order
STEPS = (
    (
        "CREATE INDEX conversations_metadata_idx ON conversations USING gin (metadata jsonb_path_ops)",
        "DROP INDEX conversations_metadata_idx",
    ),
    (
        f"CREATE INDEX conversations_words_idx ON conversations USING gin (({THREAD_WORDS}))",
        "DROP INDEX conversations_words_idx",
    ),
    (
        (
            f"CREATE INDEX passages_folded_idx ON passages USING gin (({FOLDED.format('lexemes::text')}::tsvector))"
            " WITH (fastupdate = off) WHERE kind = 2"
        ),
        "DROP INDEX passages_folded_idx",
    ),
    (
        (
            "CREATE INDEX passages_speaker_idx ON passages (tenant_id, lower(split_part(speaker, ' ', 1)), user_id)"
            " WHERE kind = 2 AND speaker <> ALL (ARRAY['human', 'ai', 'tool', 'system'])"
        ),
        "DROP INDEX passages_speaker_idx",
    ),
    (
        "ALTER TABLE conversations ADD COLUMN retention jsonb",
        "ALTER TABLE conversations DROP COLUMN retention",
    ),
    (
        (
            "COMMENT ON COLUMN conversations.retention IS"
            " 'How much of this thread''s history is kept, in place of the policy for all; NULL follows that one'"
        ),
        None,
    ),
    (
        "CREATE INDEX conversations_retention_idx ON conversations (tenant_id, thread_id) WHERE retention IS NOT NULL",
        "DROP INDEX conversations_retention_idx",
    ),
    (
        "ALTER TABLE conversations ADD COLUMN forgotten_at timestamptz",
        "ALTER TABLE conversations DROP COLUMN forgotten_at",
    ),
    (
        (
            "COMMENT ON COLUMN conversations.forgotten_at IS"
            " 'When the thread was forgotten softly: hidden until somebody writes to it or undoes it'"
        ),
        None,
    ),
    (
        "ALTER TABLE conversations ADD COLUMN messages_channel text",
        "ALTER TABLE conversations DROP COLUMN messages_channel",
    ),
    (
        (
            "COMMENT ON COLUMN conversations.messages_channel IS"
            " 'The channel of the graph whose messages are the conversation; NULL means messages'"
        ),
        None,
    ),
    (
        "ALTER TABLE conversations ADD COLUMN buffer_channels jsonb",
        "ALTER TABLE conversations DROP COLUMN buffer_channels",
    ),
    (
        (
            "COMMENT ON COLUMN conversations.buffer_channels IS"
            " 'The names in memory_buffer that are the graph''s own; the others the application merged in'"
        ),
        None,
    ),
    (PUT_CHECKPOINTS, "DROP FUNCTION put_checkpoints(text, jsonb, text[], bytea)"),
    (HIDES, "DROP FUNCTION conversation_hides()"),
    (
        (
            "CREATE TRIGGER conversation_hides AFTER UPDATE OF forgotten_at ON conversations FOR EACH ROW"
            " WHEN ((old.forgotten_at IS NULL) <> (new.forgotten_at IS NULL)) EXECUTE FUNCTION conversation_hides()"
        ),
        "DROP TRIGGER conversation_hides ON conversations",
    ),
    (
        (
            'CREATE TABLE listeners (tenant_id text COLLATE "C" NOT NULL, id uuid NOT NULL,'
            " until timestamptz NOT NULL, CONSTRAINT listeners_pkey PRIMARY KEY (tenant_id, id))"
        ),
        "DROP TABLE listeners",
    ),
    (
        "COMMENT ON TABLE listeners IS 'Processes that want to hear of changes of a tenant, for as long as they say'",
        None,
    ),
    (TELLS, "DROP FUNCTION tell_listeners()"),
    _told("memories", "INSERT OR DELETE", "item_id"),
    _told("memories", "UPDATE OF superseded_at", "item_id"),
    _told("working_memory", "INSERT OR DELETE", "scope_id"),
    _told("documents", "INSERT OR UPDATE OF version, title OR DELETE", "id"),
    _told("conversations", "DELETE", "thread_id"),
    _told(
        "conversations",
        "UPDATE OF indexed_seq, title, forgotten_at",
        "thread_id",
        "WHEN (new.indexed_seq > old.indexed_seq OR new.title IS DISTINCT FROM old.title"
        " OR (new.forgotten_at IS NULL) <> (old.forgotten_at IS NULL)) ",
    ),
    (
        "ALTER TABLE passages ADD COLUMN flagged boolean NOT NULL DEFAULT false",
        "ALTER TABLE passages DROP COLUMN flagged",
    ),
    (
        "COMMENT ON COLUMN passages.flagged IS 'Whether the text reads like an instruction to an assistant'",
        None,
    ),
    (
        "CREATE INDEX passages_flagged_idx ON passages (tenant_id, kind, said_at) WHERE flagged",
        "DROP INDEX passages_flagged_idx",
    ),
    (
        (
            'CREATE TABLE forgotten_users (tenant_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL,'
            " forgotten_at timestamptz NOT NULL,"
            " CONSTRAINT forgotten_users_pkey PRIMARY KEY (tenant_id, user_id, forgotten_at))"
        ),
        "DROP TABLE forgotten_users",
    ),
    (
        (
            "COMMENT ON TABLE forgotten_users IS"
            " 'When a user was forgotten softly: what was closed or hidden at these times comes back by an undo'"
        ),
        None,
    ),
    (
        (
            'CREATE TABLE tokens (tenant_id text COLLATE "C" NOT NULL, id uuid NOT NULL, name text,'
            ' user_id text COLLATE "C", scopes text[] NOT NULL, secret_hash bytea NOT NULL,'
            " created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz, used_hour timestamptz,"
            " revoked_at timestamptz,"
            " CONSTRAINT tokens_pkey PRIMARY KEY (tenant_id, id),"
            " CONSTRAINT tokens_user_check CHECK (user_id IS NOT NULL OR 'service' = ANY (scopes)))"
        ),
        "DROP TABLE tokens",
    ),
    (
        (
            "COMMENT ON TABLE tokens IS"
            " 'Who may use the store over HTTP: the SHA-256 of each token''s secret, never the secret itself'"
        ),
        None,
    ),
    (
        "CREATE INDEX tokens_user_idx ON tokens (tenant_id, user_id)",
        "DROP INDEX tokens_user_idx",
    ),
    (
        "ALTER TABLE embeddings ADD COLUMN part smallint NOT NULL DEFAULT 0",
        "ALTER TABLE embeddings DROP COLUMN part",
    ),
    (
        (
            "ALTER TABLE embeddings DROP CONSTRAINT embeddings_pkey,"
            " ADD CONSTRAINT embeddings_pkey PRIMARY KEY (tenant_id, model_id, passage_id, part)"
        ),
        (
            "ALTER TABLE embeddings DROP CONSTRAINT embeddings_pkey,"
            " ADD CONSTRAINT embeddings_pkey PRIMARY KEY (tenant_id, model_id, passage_id)"
        ),
    ),
    (
        (
            "COMMENT ON COLUMN embeddings.part IS"
            " 'Which text of the passage: a store item has a vector for each of its indexed fields'"
        ),
        "DELETE FROM embeddings WHERE part > 0",
    ),
    (
        "ALTER TABLE embedding_models ADD COLUMN spec text",
        "ALTER TABLE embedding_models DROP COLUMN spec",
    ),
    (
        (
            "COMMENT ON COLUMN embedding_models.spec IS"
            " 'The setting that opens this model; NULL where a program passed it as an object'"
        ),
        None,
    ),
    (
        "ALTER TABLE embedding_models ADD COLUMN ready_at timestamptz",
        "ALTER TABLE embedding_models DROP COLUMN ready_at",
    ),
    (
        (
            "COMMENT ON COLUMN embedding_models.ready_at IS"
            " 'Since when every passage has its vector and searches use them; NULL while they are being made'"
        ),
        None,
    ),
    (
        "ALTER TABLE embedding_models ADD COLUMN retired_at timestamptz",
        "ALTER TABLE embedding_models DROP COLUMN retired_at",
    ),
    (
        "COMMENT ON COLUMN embedding_models.retired_at IS 'Since when new passages get no vector of this model'",
        None,
    ),
    ("UPDATE embedding_models SET ready_at = created_at", None),
    (
        "ALTER TABLE embedding_queue ADD COLUMN attempts smallint NOT NULL DEFAULT 0",
        "ALTER TABLE embedding_queue DROP COLUMN attempts",
    ),
    (
        "COMMENT ON COLUMN embedding_queue.attempts IS 'How often the model refused this very text'",
        None,
    ),
    (
        "ALTER TABLE embedding_queue ADD COLUMN not_before timestamptz",
        "ALTER TABLE embedding_queue DROP COLUMN not_before",
    ),
    (
        (
            "COMMENT ON COLUMN embedding_queue.not_before IS"
            " 'When a text that was refused is tried again; NULL where it was not'"
        ),
        None,
    ),
    (
        (
            'CREATE TABLE search_languages (tenant_id text COLLATE "C" NOT NULL, languages text[] NOT NULL,'
            " changed_at timestamptz NOT NULL DEFAULT now(),"
            " CONSTRAINT search_languages_pkey PRIMARY KEY (tenant_id))"
        ),
        "DROP TABLE search_languages",
    ),
    (
        (
            "COMMENT ON TABLE search_languages IS"
            " 'The text search configurations that the words of a tenant are read in'"
        ),
        None,
    ),
    (WORDS, WORDS_BEFORE),
    (WORDS_OF, "DROP FUNCTION words_of(text[], text)"),
    (QUERY_WORDS, "DROP FUNCTION query_words(text[], text)"),
    (None, STATISTICS_AGAIN),
    (None, "DELETE FROM term_statistics"),
    (None, WEIGHTS_AGAIN),
    (TERM_ID_NOW, TERM_ID_BEFORE),
    (WORDS_WEIGHTS, WORDS_WEIGHTS_BEFORE),
    (
        "DROP INDEX passages_lexemes_idx",
        "CREATE INDEX passages_lexemes_idx ON passages USING gin (lexemes) WITH (fastupdate = off)",
    ),
    (TERM_KEYS, "DROP FUNCTION term_keys(text, smallint, tsvector)"),
    ("ALTER TABLE passages ADD COLUMN keys integer[] NOT NULL DEFAULT '{}'", "ALTER TABLE passages DROP COLUMN keys"),
    ("COMMENT ON COLUMN passages.keys IS 'The terms of this tenant and kind, by term_keys(...)'", None),
    (WEIGHTS_AND_KEYS, None),
    ("CREATE INDEX passages_keys_idx ON passages USING gin (keys) WITH (fastupdate = off)", None),
    ("DELETE FROM term_statistics", None),
    (STATISTICS_AGAIN, None),
    ("ALTER TABLE conversations ADD COLUMN summary text", "ALTER TABLE conversations DROP COLUMN summary"),
    ("COMMENT ON COLUMN conversations.summary IS 'What a model made of the conversation so far'", None),
    (
        "ALTER TABLE conversations ADD COLUMN summary_seq bigint",
        "ALTER TABLE conversations DROP COLUMN summary_seq",
    ),
    (
        "COMMENT ON COLUMN conversations.summary_seq IS 'The last message that the summary knows of'",
        None,
    ),
    (
        "ALTER TABLE conversations ADD COLUMN auto_title boolean NOT NULL DEFAULT false",
        "ALTER TABLE conversations DROP COLUMN auto_title",
    ),
    (
        "COMMENT ON COLUMN conversations.auto_title IS 'The title was not given by a person, and may be replaced'",
        None,
    ),
    (
        (
            'CREATE TABLE feedback (tenant_id text COLLATE "C" NOT NULL, thread_id text COLLATE "C" NOT NULL,'
            " message uuid NOT NULL, given_by text COLLATE \"C\" NOT NULL DEFAULT '', outcome text NOT NULL,"
            " score double precision, comment text, given_at timestamptz NOT NULL DEFAULT now(),"
            " CONSTRAINT feedback_pkey PRIMARY KEY (tenant_id, thread_id, message, given_by),"
            " CONSTRAINT feedback_outcome_check CHECK (outcome IN ('good', 'bad', 'mixed')))"
        ),
        "DROP TABLE feedback",
    ),
    (
        "COMMENT ON TABLE feedback IS 'What somebody thought of an answer, by the message that asked for it'",
        None,
    ),
    (
        (
            'CREATE TABLE shared_conversations (tenant_id text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL,'
            ' thread_id text COLLATE "C" NOT NULL, last_message uuid,'
            " created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz,"
            " CONSTRAINT shared_conversations_pkey PRIMARY KEY (tenant_id, id))"
        ),
        "DROP TABLE shared_conversations",
    ),
    (
        (
            "COMMENT ON TABLE shared_conversations IS"
            " 'Conversations that may be read by whoever knows the id; last_message ends what is shown'"
        ),
        None,
    ),
    (
        "CREATE INDEX shared_conversations_thread_idx ON shared_conversations (tenant_id, thread_id)",
        "DROP INDEX shared_conversations_thread_idx",
    ),
    (
        "CREATE INDEX messages_results_idx ON messages (tenant_id, said_at) WHERE role = 'tool'",
        "DROP INDEX messages_results_idx",
    ),
    (
        "ALTER TABLE conversations ADD COLUMN extraction jsonb",
        "ALTER TABLE conversations DROP COLUMN extraction",
    ),
    (
        (
            "COMMENT ON COLUMN conversations.extraction IS"
            " 'How far a model has read this thread for facts to propose, what went wrong, and what it cost'"
        ),
        None,
    ),
    (
        (
            'CREATE TABLE proposals (tenant_id text COLLATE "C" NOT NULL, id uuid NOT NULL,'
            ' thread_id text COLLATE "C" NOT NULL, user_id text COLLATE "C", content text NOT NULL,'
            " content_hash bytea NOT NULL, subject text, attribute text, messages text[] NOT NULL,"
            " importance real NOT NULL DEFAULT 0.5, valid_from timestamptz, model text,"
            " status text NOT NULL DEFAULT 'open', memory_id uuid, created_at timestamptz NOT NULL DEFAULT now(),"
            " decided_at timestamptz, CONSTRAINT proposals_pkey PRIMARY KEY (tenant_id, id),"
            " CONSTRAINT proposals_status_check CHECK (status IN ('open', 'accepted', 'rejected')))"
        ),
        "DROP TABLE proposals",
    ),
    (
        "COMMENT ON TABLE proposals IS 'Facts that a model took from messages, for somebody to accept or reject'",
        None,
    ),
    (
        (
            "CREATE UNIQUE INDEX proposals_content_key ON proposals"
            " (tenant_id, (COALESCE(user_id, ''::text)), content_hash)"
        ),
        "DROP INDEX proposals_content_key",
    ),
    (
        "CREATE INDEX proposals_thread_idx ON proposals (tenant_id, thread_id)",
        "DROP INDEX proposals_thread_idx",
    ),
    (CONVERSATION_MESSAGES, "DROP VIEW conversation_messages"),
    (CONVERSATION_TURNS, "DROP VIEW conversation_turns"),
    (CONVERSATION_TOOL_CALLS, "DROP VIEW conversation_tool_calls"),
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
