"""The statements of `AgentSettingsStore`. `{s}` is the store's schema."""

from __future__ import annotations

COLUMNS = "scope, scope_id, name, version, value, valid_from, set_by, reason"
ANSWER = COLUMNS.replace("value,", "value::text AS value,")

# The value is compared as text: for jsonb 1 and 1.0 are the same number, for a program they are
# not. A concurrent writer of the same version makes the INSERT do nothing; `written` then has no row.
SET = f"""
WITH latest AS (
    SELECT {COLUMNS} FROM {{s}}.agent_settings
    WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 AND name = $4
    ORDER BY version DESC LIMIT 1
), wanted AS (
    %s
), written AS (
    INSERT INTO {{s}}.agent_settings (tenant_id, scope, scope_id, name, version, value, set_by, reason)
    SELECT $1, $2, $3, $4, coalesce((SELECT version FROM latest), 0) + 1, wanted.value, $6, $7
    FROM wanted WHERE NOT EXISTS (SELECT FROM latest WHERE latest.value::text = wanted.value::text)
    ON CONFLICT DO NOTHING
    RETURNING {COLUMNS}
)
SELECT {ANSWER}, true AS done FROM written
UNION ALL
SELECT {ANSWER}, value::text = (SELECT value::text FROM wanted) FROM latest
WHERE NOT EXISTS (SELECT FROM written)
"""
GIVEN_VALUE = "SELECT $5::text::jsonb AS value"
OLD_VALUE = """
    SELECT value FROM {s}.agent_settings
    WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 AND name = $4 AND version = $5::integer
"""

ACTIVE = f"""
SELECT latest.* FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS wanted (scope, scope_id, place)
CROSS JOIN LATERAL (
    SELECT {ANSWER} FROM {{s}}.agent_settings a
    WHERE a.tenant_id = $1 AND a.scope = wanted.scope AND a.scope_id = wanted.scope_id AND a.name = $2
      AND ($6::timestamptz IS NULL OR a.valid_from <= $6)
    ORDER BY a.version DESC LIMIT 1
) AS latest
ORDER BY wanted.place LIMIT $5
"""

HISTORY = f"""
SELECT {ANSWER} FROM {{s}}.agent_settings
WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 AND name = $4
ORDER BY version DESC LIMIT $5
"""

CURRENT = f"""
SELECT DISTINCT ON (name) {ANSWER} FROM {{s}}.agent_settings
WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3
ORDER BY name, version DESC LIMIT $4
"""

AT = f"""
SELECT {ANSWER} FROM {{s}}.agent_settings
WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 AND name = $4 AND valid_from <= $5
ORDER BY valid_from DESC, version DESC LIMIT 1
"""

# An answer carries the versions that it was given with, where the agent noted them; else the time says it.
OF_ANSWER = f"""
WITH answer AS (
    SELECT said_at, user_id, body #> ARRAY['response_metadata', 'agent_settings', $2] AS used
    FROM {{s}}.conversation_messages
    WHERE tenant_id = $1 AND thread_id = $3 AND ($4::bigint IS NULL OR turn = $4)
      AND ($5::text IS NULL OR message_id = $5 OR id::text = $5)
    ORDER BY (role = 'ai') DESC, position DESC LIMIT 1
)
SELECT found.* FROM answer LEFT JOIN LATERAL (
    SELECT 0 AS place, {ANSWER} FROM {{s}}.agent_settings
    WHERE tenant_id = $1 AND scope = used ->> 'scope' AND scope_id = used ->> 'scope_id' AND name = $2
      AND version::text = used ->> 'version'
    UNION ALL
    SELECT wanted.place, latest.*
    FROM (VALUES ('thread', $3, 1), ('user', user_id, 2), ('agent', $6, 3), ('tenant', '', 4))
         AS wanted (in_scope, of, place)
    CROSS JOIN LATERAL (
        SELECT {ANSWER} FROM {{s}}.agent_settings
        WHERE tenant_id = $1 AND scope = in_scope AND scope_id = of AND name = $2 AND valid_from <= said_at
        ORDER BY version DESC LIMIT 1
    ) AS latest
    WHERE used IS NULL
) AS found ON true ORDER BY found.place LIMIT 1
"""

VERSIONS = f"""
SELECT {ANSWER} FROM {{s}}.agent_settings
WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 AND name = $4 AND version IN ($5, $6)
"""

DELETE = """
WITH gone AS (
    DELETE FROM {s}.agent_settings
    WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 AND ($4::text IS NULL OR name = $4)
    RETURNING 1
)
SELECT count(*) FROM gone
"""
