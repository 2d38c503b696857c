"""The statements of `Retentions`. `{s}` is the store's schema.

All are made of the same parts, so that what is announced is what is removed. Arguments 1 to 7 are
those of the rules: tenant, threads (or the thread to go on after), and the policy that holds where
a thread has none of its own: how many are kept, for how many seconds, seconds until a thread
expires, what goes then, and whether the policy holds in any case.
"""

from __future__ import annotations

from functools import cache

from memory_plugin.capabilities.checkpoint_upkeep_sql import needed_chain, shown_channels
from memory_plugin.capabilities.thread_removal import size_of

SET = """
INSERT INTO {s}.conversations (tenant_id, thread_id, user_id, retention) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (tenant_id, thread_id) DO UPDATE SET retention = excluded.retention
"""

GET = "SELECT retention::text FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2"

CLEAR = """
UPDATE {s}.conversations SET retention = NULL
WHERE tenant_id = $1 AND thread_id = $2 AND retention IS NOT NULL RETURNING 1
"""

COUNT = "SELECT count(*) FROM {s}.conversations WHERE tenant_id = $1"
COUNT_OWN = COUNT + " AND retention IS NOT NULL"

LOCK_ALL = """
SELECT thread_id FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = ANY ($2) ORDER BY thread_id FOR UPDATE
"""
LOCK_FREE = f"{LOCK_ALL.rstrip()} SKIP LOCKED"

# one process at a time for a tenant of a schema; ends with the transaction, so that poolers do no harm
ALONE = "SELECT pg_try_advisory_xact_lock(hashtext('memory-plugin retention'), hashtext($1 || '/' || $2))"

_PAGE = """page AS MATERIALIZED (
    SELECT thread_id, updated_at, retention FROM {s}.conversations
    WHERE tenant_id = $1 AND thread_id > $2 {which} ORDER BY thread_id LIMIT $8
)"""

_NAMED = """page AS MATERIALIZED (
    SELECT thread_id, updated_at, retention FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = ANY ($2)
)"""

_STAYS = "(place = 1 OR coalesce(place <= keep_last, false) OR coalesce(created_at >= keep_since, false))"

# a thread is active when something was said in it, or when its agent went a step
_RULES = f""", ruled AS MATERIALIZED (
    SELECT p.thread_id, r.keep_last, r.keep_since, r.idle, r.idle AND r.expire = 'thread' AS whole
    FROM page p CROSS JOIN LATERAL (
        SELECT o.keep_last, o.expire, now() - make_interval(secs => o.keep_for) AS keep_since,
               CASE WHEN o.expire_after IS NULL OR p.updated_at >= now() - make_interval(secs => o.expire_after)
                    THEN false
                    ELSE NOT EXISTS (
                        SELECT FROM {{s}}.checkpoints k WHERE k.tenant_id = $1 AND k.thread_id = p.thread_id
                          AND k.created_at >= now() - make_interval(secs => o.expire_after)) END AS idle
        FROM (
            SELECT (p.retention ->> 'keep_last')::int AS keep_last,
                   (p.retention ->> 'keep_for')::float8 AS keep_for,
                   (p.retention ->> 'expire_after')::float8 AS expire_after, p.retention ->> 'expire' AS expire
            WHERE p.retention IS NOT NULL AND NOT $7::boolean
            UNION ALL
            SELECT $3::int, $4::float8, $5::float8, $6::text WHERE p.retention IS NULL OR $7::boolean
        ) AS o
        OFFSET 0
    ) AS r
), ranked AS MATERIALIZED (
    SELECT k.thread_id, k.checkpoint_ns, k.checkpoint_id, k.created_at, r.keep_last, r.keep_since, r.idle,
           row_number() OVER (PARTITION BY k.thread_id, k.checkpoint_ns ORDER BY k.checkpoint_id DESC) AS place,
           coalesce(jsonb_typeof(k.metadata -> 'counters_since_delta_snapshot') = 'object', false) AS delta
    FROM ruled r JOIN {{s}}.checkpoints k ON k.tenant_id = $1 AND k.thread_id = r.thread_id
    WHERE r.idle OR r.keep_last IS NOT NULL OR r.keep_since IS NOT NULL
), heads AS (
    SELECT thread_id, checkpoint_ns, checkpoint_id FROM ranked WHERE delta AND {_STAYS}
), {needed_chain("heads")}, judged AS MATERIALIZED (
    SELECT k.thread_id, k.checkpoint_ns, k.checkpoint_id, k.idle,
           {_STAYS} OR n.thread_id IS NOT NULL AS stays,
           k.idle OR NOT ({_STAYS} OR n.thread_id IS NOT NULL) AS goes
    FROM ranked k LEFT JOIN (SELECT DISTINCT thread_id, checkpoint_ns, checkpoint_id FROM needed) AS n
      USING (thread_id, checkpoint_ns, checkpoint_id)
)
"""

_PLAN = """SELECT (SELECT count(*) FROM page) AS looked, (SELECT max(thread_id) FROM page) AS last,
       ARRAY(SELECT thread_id FROM ruled WHERE whole UNION SELECT thread_id FROM judged WHERE goes) AS todo
"""

# Of a thread with more than fits the newest go first: no checkpoint lives on a newer one. What no
# checkpoint needs any more (values, messages of subgraphs) goes with the last of them, so that one
# that was interrupted is found again. Of an expired thread the newest state goes last: it is what
# the conversation is read from.
_CHOICE = """, numbered AS MATERIALIZED (
    SELECT thread_id, checkpoint_ns, checkpoint_id, row_number() OVER (
        ORDER BY thread_id, stays, CASE WHEN NOT stays THEN checkpoint_id END DESC, checkpoint_id) AS n
    FROM judged WHERE goes
), taken AS MATERIALIZED (
    SELECT d.thread_id, max(d.n) <= $8 AS finishing, r.idle, r.whole
    FROM numbered d JOIN ruled r USING (thread_id) GROUP BY d.thread_id, r.idle, r.whole
    HAVING max(d.n) <= $8 OR min(d.n) = 1
), finishing AS MATERIALIZED (
    SELECT thread_id, idle FROM taken WHERE finishing AND NOT whole
), doomed AS MATERIALIZED (
    SELECT d.thread_id, d.checkpoint_ns, d.checkpoint_id FROM numbered d JOIN taken t USING (thread_id)
    WHERE d.n <= $8 AND NOT (t.finishing AND t.whole)
), staying AS MATERIALIZED (
    SELECT k.thread_id, k.checkpoint_ns, k.versions, k.message_refs
    FROM finishing f JOIN judged j ON j.thread_id = f.thread_id AND NOT j.goes
    JOIN {s}.checkpoints k ON k.tenant_id = $1 AND k.thread_id = j.thread_id AND k.checkpoint_ns = j.checkpoint_ns
     AND k.checkpoint_id = j.checkpoint_id
), used AS MATERIALIZED (
    SELECT DISTINCT s.thread_id, s.checkpoint_ns, v.name, v.version
    FROM staying s, jsonb_each_text(s.versions) AS v (name, version)
), unused AS MATERIALIZED (
    SELECT b.thread_id, b.checkpoint_ns, b.channel, b.version, {size_of_blobs} AS bytes
    FROM finishing f JOIN {s}.checkpoint_blobs b ON b.tenant_id = $1 AND b.thread_id = f.thread_id
    LEFT JOIN used u ON u.thread_id = b.thread_id AND u.checkpoint_ns = b.checkpoint_ns
     AND u.name COLLATE "C" = b.channel AND u.version COLLATE "C" = b.version
    WHERE u.thread_id IS NULL LIMIT $9
), covered AS MATERIALIZED (
    SELECT s.thread_id, range_agg(int8range((span ->> 0)::bigint, (span ->> 1)::bigint)) AS spans
    FROM staying s, jsonb_path_query(s.message_refs, '$.*[*]') AS span GROUP BY s.thread_id
), internal AS MATERIALIZED (
    SELECT m.thread_id, m.seq, {size_of_messages} AS bytes
    FROM finishing f JOIN {s}.messages m ON m.tenant_id = $1 AND m.thread_id = f.thread_id AND m.origin = 2
    LEFT JOIN covered c ON c.thread_id = m.thread_id
    WHERE NOT coalesce(c.spans @> m.seq, false) LIMIT $9
), pending AS MATERIALIZED (
    SELECT w.thread_id, w.checkpoint_ns, w.checkpoint_id, w.task_id, w.idx, {size_of_writes} AS bytes
    FROM doomed d JOIN {s}.checkpoint_writes w
      ON w.tenant_id = $1 AND w.thread_id = d.thread_id AND w.checkpoint_ns = d.checkpoint_ns
     AND w.checkpoint_id = d.checkpoint_id
    UNION
    SELECT w.thread_id, w.checkpoint_ns, w.checkpoint_id, w.task_id, w.idx, {size_of_writes}
    FROM finishing f JOIN {s}.checkpoint_writes w ON w.tenant_id = $1 AND w.thread_id = f.thread_id
    WHERE f.idle
), gone AS MATERIALIZED (
    -- values and messages first, where there are many: the checkpoints stay until these are done
    SELECT d.* FROM doomed d
    WHERE (SELECT count(*) FROM unused) < $9 AND (SELECT count(*) FROM internal) < $9
)
"""

_REMOVE = """, k AS (
    DELETE FROM {s}.checkpoints c USING gone g
    WHERE c.tenant_id = $1 AND c.thread_id = g.thread_id AND c.checkpoint_ns = g.checkpoint_ns
      AND c.checkpoint_id = g.checkpoint_id RETURNING {size_of_checkpoints} AS bytes
), w AS (
    DELETE FROM {s}.checkpoint_writes c USING pending p
    WHERE c.tenant_id = $1 AND c.thread_id = p.thread_id AND c.checkpoint_ns = p.checkpoint_ns
      AND c.checkpoint_id = p.checkpoint_id AND c.task_id = p.task_id AND c.idx = p.idx
      AND EXISTS (SELECT FROM gone) RETURNING p.bytes
), b AS (
    DELETE FROM {s}.checkpoint_blobs c USING unused u
    WHERE c.tenant_id = $1 AND c.thread_id = u.thread_id AND c.checkpoint_ns = u.checkpoint_ns
      AND c.channel = u.channel AND c.version = u.version RETURNING u.bytes
), m AS (
    DELETE FROM {s}.messages c USING internal i
    WHERE c.tenant_id = $1 AND c.thread_id = i.thread_id AND c.seq = i.seq RETURNING i.bytes
), roots AS MATERIALIZED (
    -- threads that go on as conversations without a state
    SELECT DISTINCT ON (c.thread_id) c.thread_id,
           c.message_refs -> coalesce(v.messages_channel, 'messages') AS ranges, {shown} AS channels
    FROM finishing f JOIN {s}.checkpoints c ON c.tenant_id = $1 AND c.thread_id = f.thread_id AND c.checkpoint_ns = ''
    JOIN {s}.conversations v ON v.tenant_id = $1 AND v.thread_id = f.thread_id
    WHERE f.idle AND EXISTS (SELECT FROM gone) ORDER BY c.thread_id, c.checkpoint_id DESC
), said AS (
    UPDATE {s}.messages x SET origin = 1
    FROM roots r, jsonb_array_elements(r.ranges) AS span
    WHERE x.tenant_id = $1 AND x.thread_id = r.thread_id AND x.seq >= (span ->> 0)::bigint
      AND x.seq < (span ->> 1)::bigint AND x.origin = 0 AND x.body IS NOT NULL
    RETURNING x.thread_id
), counted AS (
    UPDATE {s}.conversations c
    SET message_count = (SELECT count(*) FROM said WHERE said.thread_id = c.thread_id) + (
            SELECT count(*) FROM {s}.messages x
            WHERE x.tenant_id = $1 AND x.thread_id = c.thread_id AND x.origin = 1),
        memory_buffer = nullif(c.memory_buffer - r.channels, '{}')
    FROM roots r WHERE c.tenant_id = $1 AND c.thread_id = r.thread_id
)
"""

_COUNT_ONLY = """, k AS (
    SELECT {size_of_checkpoints} AS bytes FROM gone g JOIN {s}.checkpoints c
      ON c.tenant_id = $1 AND c.thread_id = g.thread_id AND c.checkpoint_ns = g.checkpoint_ns
     AND c.checkpoint_id = g.checkpoint_id
), w AS (SELECT bytes FROM pending), b AS (SELECT bytes FROM unused), m AS (SELECT bytes FROM internal)
"""

_ANSWER = """SELECT (SELECT count(*) FROM k) AS checkpoints, (SELECT count(*) FROM w) AS checkpoint_writes,
       (SELECT count(*) FROM b) AS checkpoint_blobs, (SELECT count(*) FROM m) AS messages,
       (SELECT coalesce(sum(bytes), 0) FROM (
            SELECT bytes FROM k UNION ALL SELECT bytes FROM w
            UNION ALL SELECT bytes FROM b UNION ALL SELECT bytes FROM m
        ) AS sizes)::bigint AS bytes,
       ARRAY(SELECT f.thread_id FROM finishing f WHERE NOT f.idle AND EXISTS (SELECT FROM gone)) AS pruned,
       ARRAY(SELECT f.thread_id FROM finishing f WHERE f.idle AND EXISTS (SELECT FROM gone)) AS emptied,
       ARRAY(SELECT r.thread_id FROM ruled r LEFT JOIN taken t USING (thread_id)
             WHERE r.whole AND (t.finishing OR NOT EXISTS (SELECT FROM numbered d WHERE d.thread_id = r.thread_id))
       ) AS expired,
       EXISTS (SELECT FROM numbered n LEFT JOIN taken t USING (thread_id)
               WHERE t.thread_id IS NULL OR NOT t.finishing)
       OR EXISTS (SELECT FROM doomed) AND NOT EXISTS (SELECT FROM gone) AS more
"""


def _filled(text: str) -> str:
    sizes = {
        "{size_of_blobs}": size_of("checkpoint_blobs", "b"),
        "{size_of_messages}": size_of("messages", "m"),
        "{size_of_writes}": size_of("checkpoint_writes", "w"),
        "{size_of_checkpoints}": size_of("checkpoints", "c"),
        "{shown}": shown_channels("v", "c"),
    }
    for mark, size in sizes.items():
        text = text.replace(mark, size)
    return text


@cache
def plan(*, own_only: bool) -> str:
    """What is to do in the next page of threads; $8 is how many it looks at.

    Args:
        own_only: look only at threads with a policy of their own.
    """
    which = "AND retention IS NOT NULL" if own_only else ""
    return "WITH RECURSIVE " + _PAGE.replace("{which}", which) + _RULES + _PLAN


PLAN_NAMED = "WITH RECURSIVE " + _NAMED + _RULES + _PLAN


@cache
def remove(*, counted_only: bool) -> str:
    """Remove what the rules say from the threads, which are locked.

    $8 is how many checkpoints and $9 how many values one run takes; `more` says that there is
    more to do.
    """
    last = _COUNT_ONLY if counted_only else _REMOVE
    return "WITH RECURSIVE " + _NAMED + _RULES + _filled(_CHOICE + last) + _ANSWER
