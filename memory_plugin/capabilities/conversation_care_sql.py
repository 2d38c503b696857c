"""The statements of `ConversationCare`. `{s}` is the store's schema."""

from __future__ import annotations

TITLE = """
SELECT c.title, c.auto_title, (
    SELECT m.text FROM {s}.conversation_messages m
    WHERE m.tenant_id = $1 AND m.thread_id = $2 AND m.role = 'human' AND m.text <> '' ORDER BY m.position LIMIT 1
) AS first
FROM {s}.conversations c WHERE c.tenant_id = $1 AND c.thread_id = $2 AND c.forgotten_at IS NULL
"""

# whoever gave it a title meanwhile wins
ENTITLE = """
UPDATE {s}.conversations SET title = $3, auto_title = true
WHERE tenant_id = $1 AND thread_id = $2 AND (title IS NULL OR auto_title)
"""

SUMMARY = """
SELECT summary, summary_seq FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2 AND forgotten_at IS NULL
"""

UNSUMMARIZED = """
SELECT seq, role, name, text FROM {s}.conversation_messages
WHERE tenant_id = $1 AND thread_id = $2 AND seq > $3 AND role IN ('human', 'ai') AND text <> ''
ORDER BY position
"""

SUMMARIZE = """
UPDATE {s}.conversations SET summary = $3, summary_seq = $4
WHERE tenant_id = $1 AND thread_id = $2 AND summary_seq IS NOT DISTINCT FROM $5::bigint
RETURNING summary
"""

SHARE = """
INSERT INTO {s}.shared_conversations (tenant_id, id, thread_id, last_message, expires_at)
SELECT $1, $3, $2, CASE WHEN $4::boolean THEN NULL ELSE (
    SELECT m.id FROM {s}.conversation_messages m
    WHERE m.tenant_id = $1 AND m.thread_id = $2 ORDER BY m.position DESC LIMIT 1) END, $5::timestamptz
FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2 AND forgotten_at IS NULL AND message_count > 0
RETURNING id, thread_id, created_at, last_message, expires_at
"""

SHARES = """
SELECT id, thread_id, created_at, last_message, expires_at FROM {s}.shared_conversations
WHERE tenant_id = $1 AND thread_id = $2 AND (expires_at IS NULL OR expires_at > now()) ORDER BY created_at, id
"""

UNSHARE = """
WITH gone AS (DELETE FROM {s}.shared_conversations WHERE tenant_id = $1 AND id = $2 RETURNING 1)
SELECT count(*) FROM gone
"""

SHARED = """
SELECT s.thread_id, s.created_at, s.last_message, c.title FROM {s}.shared_conversations s
JOIN {s}.conversations c ON c.tenant_id = s.tenant_id AND c.thread_id = s.thread_id AND c.forgotten_at IS NULL
WHERE s.tenant_id = $1 AND s.id = $2 AND (s.expires_at IS NULL OR s.expires_at > now())
"""

SHARED_MESSAGES = """
WITH said AS (
    SELECT * FROM {s}.conversation_messages WHERE tenant_id = $1 AND thread_id = $2
)
SELECT id, thread_id, seq, role, name, text, said_at FROM said
WHERE role IN ('human', 'ai') AND text <> ''
  AND ($3::uuid IS NULL OR position <= (SELECT position FROM said WHERE id = $3))
ORDER BY position
"""

# -- branching: the copy of a thread is cut back to a message

BRANCH_POINT = """
SELECT m.seq FROM {s}.conversation_messages m
WHERE m.tenant_id = $1 AND m.thread_id = $2 AND m.seq <= $3 ORDER BY m.seq DESC LIMIT 1
"""

BRANCHED = """
UPDATE {s}.conversations b
SET title = coalesce($4, a.title), auto_title = $4::text IS NULL AND a.auto_title,
    metadata = b.metadata || $5::text::jsonb
FROM {s}.conversations a
WHERE b.tenant_id = $1 AND b.thread_id = $3 AND a.tenant_id = $1 AND a.thread_id = $2
"""

# the newest state in the line of the latest that knows of no message behind the point; one that was made of an
# input has that waiting to be worked on
CUT_CHECKPOINTS = """
WITH RECURSIVE line AS (
    (SELECT checkpoint_id, parent_checkpoint_id, message_refs, metadata, 1 AS depth FROM {s}.checkpoints
     WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1)
    UNION ALL
    SELECT k.checkpoint_id, k.parent_checkpoint_id, k.message_refs, k.metadata, line.depth + 1
    FROM line JOIN {s}.checkpoints k ON k.tenant_id = $1 AND k.thread_id = $2 AND k.checkpoint_ns = ''
     AND k.checkpoint_id = line.parent_checkpoint_id
), point AS MATERIALIZED (
    SELECT checkpoint_id FROM line
    WHERE metadata ->> 'source' IS DISTINCT FROM 'input' AND NOT EXISTS (
        SELECT FROM jsonb_each(coalesce(line.message_refs, '{}')) AS channel (name, ranges),
                    jsonb_array_elements(channel.ranges) AS bounds
        WHERE (bounds ->> 1)::bigint > $3 + 1)
    ORDER BY depth LIMIT 1
), gone AS (
    DELETE FROM {s}.checkpoints WHERE tenant_id = $1 AND thread_id = $2
      AND checkpoint_id > coalesce((SELECT checkpoint_id FROM point), '')
), unwritten AS (
    DELETE FROM {s}.checkpoint_writes WHERE tenant_id = $1 AND thread_id = $2
      AND checkpoint_id >= coalesce((SELECT checkpoint_id FROM point), '')
)
SELECT checkpoint_id FROM point
"""

CUT_VALUES = """
DELETE FROM {s}.checkpoint_blobs b WHERE b.tenant_id = $1 AND b.thread_id = $2 AND NOT EXISTS (
    SELECT FROM {s}.checkpoints k
    WHERE k.tenant_id = $1 AND k.thread_id = $2 AND k.checkpoint_ns = b.checkpoint_ns
      AND k.versions ->> b.channel = b.version)
"""

CUT_MESSAGES = """
DELETE FROM {s}.messages WHERE tenant_id = $1 AND thread_id = $2 AND seq > $3
"""

# without a state the messages stand for themselves
APPEND_REST = """
UPDATE {s}.messages SET origin = 1 WHERE tenant_id = $1 AND thread_id = $2 AND origin = 0
"""

COUNT_REST = """
UPDATE {s}.conversations c SET message_count = (
        SELECT count(*) FROM {s}.conversation_messages m WHERE m.tenant_id = $1 AND m.thread_id = $2),
    memory_buffer = CASE WHEN c.memory_buffer IS NULL OR NOT $3::boolean THEN c.memory_buffer
        ELSE nullif(c.memory_buffer - ARRAY(SELECT jsonb_array_elements_text(coalesce(c.buffer_channels, '[]'))),
                    '{}'::jsonb) END
WHERE c.tenant_id = $1 AND c.thread_id = $2
"""

COPY_NOTES = """
INSERT INTO {s}.working_memory (tenant_id, scope, scope_id, version, content)
SELECT tenant_id, scope, $3, 1, content FROM {s}.working_memory
WHERE tenant_id = $1 AND scope = 'chat' AND scope_id = $2 ORDER BY version DESC LIMIT 1
ON CONFLICT DO NOTHING
"""

# -- duplicates: what is the same is said by the same person in the same words

BEGINNINGS = """
WITH first AS (
    SELECT c.thread_id, c.user_id, c.updated_at, (
        SELECT md5(string_agg(x.role || ':' || x.text, chr(10) ORDER BY x.seq)) FROM (
            SELECT m.role, m.text, m.seq FROM {s}.messages m
            WHERE m.tenant_id = c.tenant_id AND m.thread_id = c.thread_id AND m.origin <> 2
              AND m.role IN ('human', 'ai') AND m.text <> ''
            ORDER BY m.seq LIMIT 2) AS x) AS beginning
    FROM {s}.conversations c
    WHERE c.tenant_id = $1 AND c.forgotten_at IS NULL AND c.message_count >= 2 AND ($2::text IS NULL OR c.user_id = $2)
)
SELECT array_agg(thread_id ORDER BY updated_at DESC, thread_id) AS threads FROM first
WHERE beginning IS NOT NULL GROUP BY user_id, beginning HAVING count(*) > 1
ORDER BY max(updated_at) DESC LIMIT $3
"""

WORDS = """
SELECT thread_id, array_agg(md5(role || ':' || text) ORDER BY position) AS words FROM {s}.conversation_messages
WHERE tenant_id = $1 AND thread_id = ANY ($2::text[]) AND role IN ('human', 'ai') AND text <> '' GROUP BY thread_id
"""

OWNERS = """
SELECT thread_id, user_id FROM {s}.conversations
WHERE tenant_id = $1 AND thread_id = ANY ($2) AND forgotten_at IS NULL ORDER BY thread_id FOR UPDATE
"""

# $2 is kept, $3 goes; a message is the same when it is the n-th with these words in both
MERGE = """
WITH said AS MATERIALIZED (
    SELECT m.*, row_number() OVER (PARTITION BY m.thread_id, m.role, m.name, m.text ORDER BY m.position) AS nth
    FROM {s}.conversation_messages m WHERE m.tenant_id = $1 AND m.thread_id = ANY (ARRAY[$2::text, $3::text])
), placed AS MATERIALIZED (
    SELECT theirs.id, theirs.seq, theirs.position, ours.id AS same, gen_random_uuid() AS made
    FROM said theirs LEFT JOIN said ours
      ON ours.thread_id = $2 AND ours.role IS NOT DISTINCT FROM theirs.role AND ours.nth = theirs.nth
     AND ours.name IS NOT DISTINCT FROM theirs.name AND ours.text IS NOT DISTINCT FROM theirs.text
    WHERE theirs.thread_id = $3
), kept AS (
    UPDATE {s}.conversations c
    SET message_seq = c.message_seq + n.added, message_count = c.message_count + n.added,
        user_id = coalesce(c.user_id, o.user_id), title = coalesce(c.title, o.title),
        auto_title = CASE WHEN c.title IS NULL THEN o.auto_title ELSE c.auto_title END,
        metadata = o.metadata || c.metadata,
        memory_buffer = coalesce(o.memory_buffer || c.memory_buffer, c.memory_buffer, o.memory_buffer),
        created_at = least(c.created_at, o.created_at), updated_at = now(),
        active_hour = date_trunc('hour', now(), 'UTC')
    FROM {s}.conversations o, (SELECT count(*) AS added FROM placed WHERE same IS NULL) AS n
    WHERE c.tenant_id = $1 AND c.thread_id = $2 AND o.tenant_id = $1 AND o.thread_id = $3
    RETURNING c.message_seq - n.added AS base
), moved AS (
    INSERT INTO {s}.messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, type, raw,
                              said_at)
    SELECT m.tenant_id, $2, kept.base + row_number() OVER (ORDER BY p.position), p.made, 1, m.role, m.message_id,
           m.name, m.text, m.body, m.type, m.raw, m.said_at
    FROM kept, placed p JOIN {s}.messages m ON m.tenant_id = $1 AND m.thread_id = $3 AND m.seq = p.seq
    WHERE p.same IS NULL
    RETURNING 1
), rated AS (
    INSERT INTO {s}.feedback (tenant_id, thread_id, message, given_by, outcome, score, comment, given_at)
    SELECT f.tenant_id, $2, coalesce(p.same, p.made), f.given_by, f.outcome, f.score, f.comment, f.given_at
    FROM {s}.feedback f JOIN placed p ON p.id = f.message WHERE f.tenant_id = $1 AND f.thread_id = $3
    ON CONFLICT DO NOTHING
), queued AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item) SELECT $1, 2, $2 FROM kept ON CONFLICT DO NOTHING
)
SELECT count(*) AS moved FROM moved
"""

# what else is of the thread goes with it, where the kept one has none of its own
MOVE_REST = (
    """
UPDATE {s}.working_memory SET scope_id = $2
WHERE tenant_id = $1 AND scope = 'chat' AND scope_id = $3
  AND NOT EXISTS (SELECT FROM {s}.working_memory WHERE tenant_id = $1 AND scope = 'chat' AND scope_id = $2)
""",
    """
UPDATE {s}.agent_settings t SET scope_id = $2
WHERE t.tenant_id = $1 AND t.scope = 'thread' AND t.scope_id = $3 AND NOT EXISTS (
    SELECT FROM {s}.agent_settings o
    WHERE o.tenant_id = $1 AND o.scope = 'thread' AND o.scope_id = $2 AND o.name = t.name)
""",
    # waits for an indexer that is at work on facts of the thread; one that comes later finds them as they are then
    """
DELETE FROM {s}.index_queue WHERE (tenant_id, kind, item) IN (
    SELECT tenant_id, kind, item FROM {s}.index_queue
    WHERE tenant_id = $1 AND kind = 1 AND $2::text IS NOT NULL
      AND item = ANY (ARRAY(SELECT id::text FROM {s}.memories WHERE tenant_id = $1 AND thread_id = $3))
    ORDER BY item FOR UPDATE)
""",
    """
UPDATE {s}.memories SET thread_id = $2 WHERE tenant_id = $1 AND thread_id = $3
""",
    """
UPDATE {s}.memories SET source = jsonb_set(source, '{thread_id}', to_jsonb($2::text))
WHERE tenant_id = $1 AND source ->> 'thread_id' = $3
""",
    """
UPDATE {s}.passages SET thread_id = $2 WHERE tenant_id = $1 AND kind = 1 AND thread_id = $3
""",
    """
INSERT INTO {s}.index_queue (tenant_id, kind, item)
SELECT m.tenant_id, 1, m.id::text FROM {s}.memories m
WHERE m.tenant_id = $1 AND m.thread_id = $2 AND $3::text IS NOT NULL
  AND NOT EXISTS (SELECT FROM {s}.passages p WHERE p.tenant_id = $1 AND p.id = m.id)
ON CONFLICT DO NOTHING
""",
)
