"""A question is read, and answered where a tenant has few passages, in one step; and so is the index made.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The number of a term, see term_id(...), as an expression: a function, called for each word, takes most of the time.
A_TERM = "('x' || left(encode(sha256(convert_to(lexeme, 'UTF8')), 'hex'), 7))::bit(28)::integer + 1"

# What the index knows of a question (the first row, as JSON), and then the candidates, if the tenant has no more than
# `few` passages and nothing of it waits for the index: all of them are measured, by words and by meaning, and the best
# `wanted` of each kind by either are given, with the messages around those that are messages. Plans are kept, and do
# not depend on what the planner believes of tables: it joins by hashing, whatever it takes them for.
#
# BM25's weight of a term is ln(1 + (N - n + 0.5) / (n + 0.5)), never negative. A speaker's name stands in half of what
# two people say to each other and nowhere else in the tenant, and counts `name_rarity` at the most among messages.
FOUND_AT_ONCE = """
CREATE FUNCTION found_at_once(
    of_tenant text, languages text[], question text, kinds smallint[], names text[], known_names text[],
    name_rarity float8, of_model integer, query halfvec, few integer, wanted integer, of_user text, of_thread text,
    since timestamptz, until timestamptz, as_of timestamptz, surroundings integer, nearby integer, times sparsevec
) RETURNS TABLE (
    reading text, id uuid, kind smallint, words float8, meaning float8, said_at timestamptz, user_id text,
    thread_id text, seq bigint, document_id uuid, speaker text, length integer, asks boolean, dated boolean,
    is_context boolean, flagged boolean
)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_mergejoin = off SET enable_seqscan = off SET max_parallel_workers_per_gather = 0 SET jit = off AS $body$
#variable_conflict use_column
DECLARE
    is_pending boolean;
    is_waiting boolean;
    speakers json;
    sizes json;
    in_all bigint;
    terms json;
    of_memories sparsevec;
    of_messages sparsevec;
    of_references sparsevec;
BEGIN
    of_tenant := checked_tenant(of_tenant);
    is_pending := EXISTS (SELECT FROM index_queue WHERE tenant_id = of_tenant);
    is_waiting := EXISTS (SELECT FROM embedding_queue WHERE tenant_id = of_tenant AND model_id = of_model
                          AND (not_before IS NULL OR not_before <= now()));
    IF names <> '{}' THEN
        SELECT json_object_agg(name, speaker), known_names || array_agg(name) || array_agg(speaker)
        INTO speakers, known_names FROM speakers_named(of_tenant, names, of_user, of_thread);
    END IF;
    SELECT json_object_agg(c.kind, c.passages), sum(c.passages) INTO sizes, in_all
    FROM corpus_statistics c WHERE c.tenant_id = of_tenant;
    languages := coalesce((SELECT l.languages FROM search_languages l WHERE l.tenant_id = of_tenant), languages);
    WITH asked AS MATERIALIZED (
        SELECT lexeme, {a_term} AS term,
               lexeme = ANY (ARRAY(SELECT query_words(languages, array_to_string(known_names, ' ')))) AS is_name
        FROM query_words(languages, question) AS lexeme
    ), counted AS (
        SELECT a.lexeme, a.term, k.kind, a.is_name, n.containing,
               ln(1 + (greatest(n.passages - n.containing, 0) + 0.5) / (n.containing + 0.5::float8)) AS rarity
        FROM asked a CROSS JOIN unnest(kinds) AS k (kind),
             LATERAL (SELECT coalesce((SELECT s.passages FROM term_statistics s WHERE s.tenant_id = of_tenant
                                       AND s.kind = k.kind AND s.term = a.term), 0) AS containing,
                             coalesce((sizes ->> k.kind::text)::bigint, 0) AS passages) AS n
    ), weighted AS MATERIALIZED (
        SELECT *, CASE WHEN is_name AND kind = 2 THEN least(rarity, name_rarity) ELSE rarity END AS weight FROM counted
    ), vectors AS (
        SELECT kind, ('{' || string_agg(term || ':' || weight::real, ',') || '}/268435456')::sparsevec AS vector
        FROM (SELECT kind, term, max(weight) AS weight FROM weighted WHERE weight > 0 GROUP BY 1, 2) AS each GROUP BY 1
    )
    SELECT json_agg(json_build_object('lexeme', lexeme, 'term', term, 'kind', kind, 'containing', containing,
                                      'weight', weight)),
           (SELECT vector FROM vectors WHERE kind = 1), (SELECT vector FROM vectors WHERE kind = 2),
           (SELECT vector FROM vectors WHERE kind = 3)
    INTO terms, of_memories, of_messages, of_references FROM weighted;
    reading := json_build_object('is_pending', is_pending, 'is_waiting', is_waiting, 'speakers', speakers,
                                 'sizes', sizes, 'terms', terms);
    RETURN NEXT;
    IF is_pending OR is_waiting OR speakers IS NOT NULL OR coalesce(in_all, 0) > few THEN
        RETURN;
    END IF;
    kinds := ARRAY(SELECT k.kind FROM unnest(kinds) AS k (kind) WHERE (
        SELECT true FROM passages p WHERE p.tenant_id = of_tenant AND p.kind = k.kind LIMIT 1));
    RETURN QUERY
    WITH near AS MATERIALIZED (
        SELECT e.passage_id, max(-(e.vector <#> query)) AS meaning FROM embeddings e
        WHERE e.tenant_id = of_tenant AND e.model_id = of_model AND query IS NOT NULL GROUP BY e.passage_id
    ), seen AS MATERIALIZED (
        SELECT p.id, p.kind,
               coalesce(-(p.weights <#> CASE p.kind WHEN 1 THEN of_memories WHEN 2 THEN of_messages
                                                    ELSE of_references END), 0) AS words,
               near.meaning, p.said_at, p.user_id, p.thread_id, p.seq, p.document_id, p.speaker, p.length,
               p.kind = 2 AND times IS NOT NULL AND (p.weights <#> times) < 0 AS dated, p.flagged
        FROM passages p LEFT JOIN near ON near.passage_id = p.id
        WHERE p.tenant_id = of_tenant AND p.kind = ANY (kinds)
          AND (of_user IS NULL OR p.user_id = of_user OR p.kind <> 2 AND p.user_id IS NULL)
          AND (of_thread IS NULL OR p.kind = 3 OR p.thread_id = of_thread)
          AND (since IS NULL OR p.said_at >= since) AND (until IS NULL OR p.said_at < until)
          AND CASE WHEN as_of IS NULL OR p.kind = 3 THEN p.live_until IS NULL
                   ELSE p.said_at <= as_of AND (p.live_until IS NULL OR p.live_until > as_of) END
    ), named AS MATERIALIZED (
        SELECT best.* FROM unnest(kinds) AS k (kind), LATERAL (
            (SELECT * FROM seen s WHERE s.kind = k.kind AND s.words > 0 ORDER BY s.words DESC, s.id LIMIT wanted)
            UNION
            (SELECT * FROM seen s WHERE s.kind = k.kind AND s.meaning IS NOT NULL
             ORDER BY s.meaning DESC, s.id LIMIT wanted)) AS best
    ), talk AS MATERIALIZED (
        -- a join by their places would compare each message with all of its thread
        SELECT *, max(m.seq) FILTER (WHERE m.is_named) OVER (
                      PARTITION BY m.thread_id ORDER BY m.seq
                      ROWS BETWEEN surroundings PRECEDING AND 1 PRECEDING) AS named_before,
                  min(m.seq) FILTER (WHERE m.is_named) OVER (
                      PARTITION BY m.thread_id ORDER BY m.seq
                      ROWS BETWEEN 1 FOLLOWING AND surroundings FOLLOWING) AS named_after
        FROM (SELECT s.*, s.id IN (SELECT n.id FROM named n) AS is_named
              FROM seen s WHERE s.kind = 2 AND surroundings > 0 OFFSET 0) AS m
    ), chosen AS MATERIALIZED (
        SELECT n.*, true AS is_named FROM named n
        UNION ALL
        SELECT t.id, t.kind, t.words, t.meaning, t.said_at, t.user_id, t.thread_id, t.seq, t.document_id, t.speaker,
               t.length, t.dated, t.flagged, false
        FROM talk t
        WHERE NOT t.is_named AND (t.seq - t.named_before <= nearby OR t.named_after - t.seq <= nearby)
    )
    SELECT NULL::text, c.id, c.kind, c.words, c.meaning, c.said_at, c.user_id, c.thread_id, c.seq, c.document_id,
           c.speaker, c.length, {asks}, c.dated, NOT c.is_named AND c.meaning IS NULL, c.flagged
    FROM chosen c LEFT JOIN LATERAL (
        SELECT m.text FROM messages m
        WHERE m.tenant_id = of_tenant AND m.thread_id = c.thread_id AND m.seq = c.seq LIMIT 1) AS g
      ON c.kind = 2 AND surroundings > 0;
END $body$
""".replace("{a_term}", A_TERM).replace(
    "{asks}",
    # a note in brackets after it aside; a long message is no turn of a talk, and octet_length tells without reading it
    "c.kind = 2 AND octet_length(g.text) <= 2000 AND coalesce(right(rtrim("
    "CASE WHEN right(g.text, 1) = ']' THEN split_part(g.text, ' [', 1) ELSE g.text END,"
    " E' \\n\\t'), 1) IN ('?', '？', '؟'), false)",
)
# The best passages of a kind by words, for whoever knows the weights of the question's terms. The rarest of these, those
# `matching`, nominate whatever has one of them; the others what has two of them at once, one of the `pairs`: a text with
# but one common word of a question is hardly among the best, and reading it costs as much as any. A user's own few
# passages are all measured.
FOUND_BY_TERMS = """
CREATE FUNCTION found_by_terms(
    of_tenant text, of_kind smallint, matching integer[], pairs integer[], query sparsevec, wanted integer, of_user text,
    or_nobody boolean, of_thread text, since timestamptz, until timestamptz, as_of timestamptz
) RETURNS TABLE (id uuid, score float8)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET max_parallel_workers_per_gather = 0 SET jit = off AS $body$
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
            (SELECT id, thread_id, said_at, live_until, weights FROM passages p
             WHERE p.tenant_id = of_tenant AND p.kind = of_kind AND p.user_id = of_user OFFSET 0)
            UNION ALL
            (SELECT id, thread_id, said_at, live_until, weights FROM passages p
             WHERE or_nobody AND p.tenant_id = of_tenant AND p.kind = of_kind AND p.user_id IS NULL OFFSET 0)
        ) AS p
        WHERE (p.weights <#> query) < 0 AND {seen}
        ORDER BY p.weights <#> query, p.id LIMIT wanted;
    ELSE
        RETURN QUERY
        SELECT found.id, found.score FROM (
            SELECT p.id, -(p.weights <#> query) AS score FROM (
                SELECT {read} FROM passages p WHERE p.keys && matching OFFSET 0) AS p
            WHERE {meant}
            UNION
            SELECT p.id, -(p.weights <#> query) AS score
            FROM generate_subscripts(pairs, 1) AS n, LATERAL (
                SELECT {read} FROM passages p WHERE p.keys @> pairs[n:n] OFFSET 0) AS p
            WHERE {meant}) AS found
        ORDER BY found.score DESC, found.id LIMIT wanted;
    END IF;
END $body$
"""
for name, text in (
    ("{read}", "tenant_id, id, kind, user_id, thread_id, said_at, live_until, weights"),
    (
        "{meant}",
        (
            "p.tenant_id = of_tenant AND p.kind = of_kind AND {seen}"
            " AND (of_user IS NULL OR p.user_id = of_user OR or_nobody AND p.user_id IS NULL)"
        ),
    ),
    (
        "{seen}",
        (
            "(of_thread IS NULL OR p.thread_id = of_thread) AND (since IS NULL OR p.said_at >= since)"
            " AND (until IS NULL OR p.said_at < until) AND (as_of IS NULL AND p.live_until IS NULL"
            " OR p.said_at <= as_of AND (p.live_until IS NULL OR p.live_until > as_of))"
        ),
    ),
):
    FOUND_BY_TERMS = FOUND_BY_TERMS.replace(name, text)

# What these read takes a millisecond or two, and starting a worker five.
ALONE = tuple(
    (
        f"ALTER FUNCTION {name} SET max_parallel_workers_per_gather = 0",
        f"ALTER FUNCTION {name} RESET max_parallel_workers_per_gather",
    )
    for name in ("speakers_named", "facts_near", "current_row")
)

# What memory_plugin/instruction_signs.py says, at the release of this revision: parts of words of which each text with
# a sign has at least one; a pattern of each sign in the words of a text or in the text itself, with parts of words
# of which whatever it matches has one out of each group; and what hides in a text.
TRIGGERS = (
    *("ignor", "disregard", "override", "bypass", "discard", "forget", "t follow", "stop follow"),
    *("忽略", "无视", "無視", "無视", "no longer", "are now", "restrict", "censored", "unfiltered", "jailbr", " mode"),
    *(" dan", "from now", "this point", "from here", "assistant", "language model", "chatbot", "llm", " ai ", "ais "),
    *("read this", "tool", "function", "working_memory", "references", "read_item", "_conversation", "_reference"),
    *("remember with", "recall with", "remember on", "recall on", "the user", "your user", "human"),
    *("prompt", "password", "api key", "secret", "credential", "token", "history", "private key", "memories"),
    *("instruction", "inst]", "system", "sys>", "important>", "<|", "memory-data"),
)
RULED = (
    "(instructions?|prompts?|rules?|guidelines?|directives?|commands?|constraints?|restrictions?|polic(y|ies)"
    "|programming|training) "
)
DROPPED = " (ignore|disregard|override|bypass|discard|forget|(do not|don t|dont|stop) follow(ing)?) "
AN_AI = "(ais?|llms?|assistants?|chatbots?|(large )?language models?|ai (models?|agents?|systems?)) "
TO_DROP = "ignore disregard override bypass discard forget follow"
TO_KEEP = "instruction prompt rule guideline directive command constraint restriction polic programming training"
SOME_AI = "ai llm assistant chatbot model"
IN_WORDS = (
    (
        (
            f"{DROPPED}((all|any|every|the|your|my|these|those|of|its) ){{0,4}}"
            "(previous|prior|preceding|earlier|above|existing|former|original|initial|system|safety|developer) "
            f"([a-z]{{1,12}} ){{0,2}}{RULED}"
        ),
        TO_DROP,
        "previous prior preceding earlier above existing former original initial system safety developer",
        TO_KEEP,
    ),
    (f"{DROPPED}(all )?(of )?your ([a-z]{{1,12}} )?{RULED}", "your", TO_DROP, TO_KEEP),
    (
        f"{DROPPED}(everything|all|anything) ([a-z]{{1,8}} ){{0,2}}(above|before this|you (were|have been) told) ",
        TO_DROP,
        "above before told",
        "everything all anything",
    ),
    (
        (
            " ignorier(e|en sie|t) (alle )?(die |deine |ihre )?(vorherigen|bisherigen|obigen|vorigen) "
            "(anweisung|instruktion|regel|befehl)"
        ),
        "ignorier",
        "anweisung instruktion regel befehl",
    ),
    (
        (
            " ignor(a|e|ez|er|ar) (tod[ao]s |toutes )?(las |les |as |tes |tus |vos )?"
            "(instrucciones|instructions|instruções) (anteriores|previas|précédentes|antérieures|ci dessus) "
        ),
        "ignor",
        "instrucciones instructions instruções",
    ),
    ("(忽略|无视|無視|無视).{0,8}(指令|指示|说明|說明|提示|規則|规则)", "忽略 无视 無視 無视"),
    (
        (
            " you are (now|no longer) (an? )?([a-z]{1,15} ){0,3}"
            "(ai|assistant|chatbot|language model|dan|jailbroken|unrestricted|bound by) "
        ),
        "longer now",
        "you",
        f"{SOME_AI} dan jailbroken unrestricted bound",
    ),
    (
        (
            " (act|behave|respond|pretend) (as|to be|like) (if )?(you (are|were|have) )?"
            "(an? |the |no )?([a-z]{1,15} )?(unrestricted|uncensored|unfiltered|jailbroken|restrictions|dan) "
        ),
        "restrict uncensored unfiltered jailbroken dan",
        "act behave respond pretend",
    ),
    (
        " (developer|dan|jailbreak|god) mode (is )?(now )?(enabled|activated|on) ",
        "mode",
        "developer dan jailbreak god",
    ),
    (
        " from (now|this point|here) (on|onwards?|forward) you (are|ignore|obey|(will|must) (act|obey|ignore)) ",
        "from",
        "you",
        "now point here",
        "are ignore obey act",
    ),
    (
        f" (attention|note|message|notice|memo) (to|for) ((the|any|all|every|other) )?([a-z]{{1,10}} )?{AN_AI}",
        "attention note message notice memo",
        SOME_AI,
    ),
    (
        f" {AN_AI}(reading|processing|parsing|summari[sz]ing|(that|who|which) reads?) (this|it) ",
        "read processing parsing summari",
        SOME_AI,
    ),
    (f" if you are (an? )?([a-z]{{1,10}} )?{AN_AI}", "if", "you", SOME_AI),
    (" when you read this (you must|call|send|reply|ignore|do|run|execute) ", "when", "read", "this"),
    (
        (
            f" {AN_AI}(must|shall|has to|have to) ((always|never|now|immediately|first) )?"
            "(obey|ignore|disclose|not (tell|mention|reveal)|forward|delete|comply) "
        ),
        "obey ignore disclose tell mention reveal forward delete comply",
        "must shall has have",
        SOME_AI,
    ),
    (
        (
            " (call|invoke|use|run|execute|trigger) ((the|your|a|its) )?((tool|function|mcp) )?"
            "((update working memory|search references|read item|list conversations|read conversation|add reference) "
            "|(forget|remember|recall) (tool|function|with|on) )"
        ),
        "call invoke use run execute trigger",
        "working reference item conversation forget remember recall",
    ),
    (
        (
            " (do not|don t|dont|never|without) (ever )?"
            "(tell|telling|inform|informing|notify|notifying|alert|alerting|mention|mentioning|reveal|revealing) "
            "([a-z]{1,12} ){0,4}(the|your) (user|human) "
        ),
        "user human",
        "tell inform notify alert mention reveal",
    ),
    (
        (
            " (send|forward|post|upload|e ?mail|transmit|leak|exfiltrate) ([a-z]{1,12} ){0,6}"
            "(passwords?|api keys?|secrets?|credentials|tokens?|system prompt|(chat|conversation) history"
            "|private keys?|memories) to ([a-z]{1,10} ){0,2}(https? |[a-z0-9 ]{1,40} (com|net|org|io|example|ru|cn) )"
        ),
        "send forward post upload mail transmit leak exfiltrate",
        "password api secret credential token system history private memories",
        "http com net org io example ru cn",
    ),
    (
        (
            " (reveal|print|output|repeat|leak|disclose|show) ([a-z]{1,10} ){0,3}"
            "((system|hidden|initial) prompt|your ([a-z]{1,10} )?(instructions|prompt)) "
        ),
        "reveal print output repeat leak disclose show",
        "prompt instructions",
    ),
)
IN_TEXT = (
    (r"<\|(im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id)", "<|"),
    (r"\[/?(inst|system)\]", "inst] system]"),
    ("<</?sys>>", "sys>>"),
    (
        "</?(system|important|system[-_ ]?(prompt|message|reminder|instructions?)|memory-data)>",
        "<",
        "system important memory-data",
    ),
    (
        (
            r"(^|\n)[^a-z0-9\n]{0,6}(system|developer)[^a-z0-9\n]"
            r"(prompt|message|instructions?|override|notice)[^a-z0-9\n]{0,3}:"
        ),
        ":",
        "system developer",
        "prompt message instruction override notice",
    ),
    (
        (
            r"(^|\n)[^a-z0-9\n]{0,6}(new|updated|additional|important|real|actual)[^a-z0-9\n]instructions?"
            r"[^a-z0-9\n]{0,3}:"
        ),
        ":",
        "instruction",
    ),
)
HIDDEN = r"[\u202d\u202e\U000e0020-\U000e007f]"
FLAG = r"\U0001f3f4[\U000e0020-\U000e007f]+"
UNSEEN = r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
BETWEEN = r"[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+"


def _has(words: tuple[str, ...] | list[str]) -> str:
    return "(" + " OR ".join(f"strpos(seen, '{word}') > 0" for word in words) + ")"


def _rules(text: str, rules: tuple[tuple[str, ...], ...]) -> str:
    tried = (
        f"{' AND '.join(_has(words.split()) for words in needs)} AND {text} ~ '{pattern}'" for pattern, *needs in rules
    )
    return "\n        OR ".join(tried)


def _triggers() -> str:
    """One automaton for all of them: a bracket or a bar stands for itself."""
    return "|".join(word.replace("|", r"\|") for word in TRIGGERS)


# Whether a text reads like an instruction to an assistant. Nearly all of them end at the triggers. PostgreSQL makes the
# automaton of a pattern anew for each text, as it reads it: up to some length, sixty looks for a word are quicker.
READS_LIKE_INSTRUCTION = f"""
CREATE FUNCTION reads_like_instruction(told text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $body$
DECLARE
    seen text COLLATE "C";
    words text COLLATE "C";
BEGIN
    IF octet_length(told) = char_length(told) THEN
        seen := lower(told COLLATE "C");
    ELSE
        IF regexp_replace(told, '{FLAG}', '', 'g') ~ '{HIDDEN}' THEN
            RETURN true;
        END IF;
        seen := lower(normalize(regexp_replace(told, '{UNSEEN}', '', 'g'), NFKC) COLLATE "C");
    END IF;
    IF octet_length(seen) > 2000 THEN
        IF seen !~ '{_triggers()}' THEN
            RETURN false;
        END IF;
    ELSIF NOT {_has(TRIGGERS)} THEN
        RETURN false;
    END IF;
    words := ' ' || regexp_replace(seen, '{BETWEEN}', ' ', 'g') || ' ';
    RETURN {_rules("words", IN_WORDS)}
        OR {_rules("seen", IN_TEXT)};
END $body$
"""

# What every kind does with its texts once they are in `source`. Length, weights and keys are those that `words_length`,
# `words_weights` and `term_keys` give, read from the words together. A text of ASCII alone has nothing of what
# `words` looks for. Whoever counts terms holds the row of `corpus_statistics` first, so that two of them never wait
# for each other; what is counted already is updated, which takes half the time of trying to insert it.
STORE = """
        stored AS (
            INSERT INTO passages (tenant_id, id, kind, user_id, thread_id, seq, document_id, speaker, said_at, live_until,
                                  flagged, length, lexemes, weights, keys)
            SELECT of_tenant, id, {kind}, user_id, thread_id, seq, document_id, speaker, said_at, live_until,
                   reads_like_instruction(told), said.length, lexemes, counted.weights, counted.keys
            FROM (
                SELECT s.*, CASE
                    WHEN language IS NULL THEN words_of(languages, content)
                    WHEN octet_length(content) = char_length(content) THEN to_tsvector(language, left(content, 100000))
                    ELSE words(language, content) END AS lexemes
                FROM source s OFFSET 0
            ) AS read
            CROSS JOIN LATERAL (
                SELECT coalesce(sum(coalesce(cardinality(positions), 1)), 0)::integer AS length FROM unnest(lexemes)
            ) AS said
            CROSS JOIN LATERAL (
                SELECT coalesce(array_agg(term # (salt # {kind})), '{}') AS keys,
                       ('{' || coalesce(string_agg(term || ':' || (tf * 1.9::real / (tf + 0.9::real * (0.6::real
                            + 0.4::real * (said.length / {average}::real))))::real, ',' ORDER BY term), '')
                            || '}/268435456')::sparsevec AS weights
                FROM (
                    SELECT DISTINCT ON (term) term, tf FROM (
                        SELECT ((get_byte(hash, 0) << 20) | (get_byte(hash, 1) << 12) | (get_byte(hash, 2) << 4)
                                | (get_byte(hash, 3) >> 4)) + 1 AS term, tf
                        FROM (
                            SELECT sha256(convert_to(lexeme, 'UTF8')) AS hash,
                                   coalesce(cardinality(positions), 1)::real AS tf
                            FROM unnest(lexemes) OFFSET 0
                        ) AS hashed
                    ) AS frequencies ORDER BY term, tf DESC
                ) AS terms
            ) AS counted
            ON CONFLICT DO NOTHING
            RETURNING id, length, keys
        ), corpus AS (
            INSERT INTO corpus_statistics AS c (tenant_id, kind, passages, total_length)
            SELECT of_tenant, {kind}, count(*), sum(length) FROM stored HAVING count(*) > 0
            ON CONFLICT (tenant_id, kind) DO UPDATE
            SET passages = c.passages + excluded.passages, total_length = c.total_length + excluded.total_length
            RETURNING c.kind
        ), frequencies AS MATERIALIZED (
            SELECT of_tenant AS tenant_id, {kind} AS kind, key # (salt # {kind}) AS term, count(*) AS passages
            FROM stored, unnest(keys) AS k (key) GROUP BY 3 ORDER BY 3
        ), grown AS (
            UPDATE term_statistics t SET passages = t.passages + f.passages
            FROM corpus, frequencies f
            WHERE t.tenant_id = f.tenant_id AND t.kind = f.kind AND t.term = f.term
            RETURNING t.term
        ), terms AS (
            INSERT INTO term_statistics AS t (tenant_id, kind, term, passages)
            SELECT of_tenant, {kind}, term, passages FROM frequencies WHERE term NOT IN (SELECT term FROM grown)
            ORDER BY term
            ON CONFLICT (tenant_id, kind, term) DO UPDATE SET passages = t.passages + excluded.passages
        ), vectors AS (
            INSERT INTO embedding_queue (tenant_id, model_id, passage_id)
            SELECT of_tenant, m.model_id, s.id
            FROM stored s JOIN embedding_models m ON m.tenant_id = of_tenant AND m.retired_at IS NULL
            ON CONFLICT DO NOTHING
        )
        SELECT count(*) INTO made FROM stored;
        passages := passages + made;
"""


def _stored(kind: int, average: int) -> str:
    return STORE.replace("{kind}", f"{kind}::smallint").replace("{average}", str(average))


# Turns what is queued into passages: one batch of each kind. `rows` of the queue were taken, so many `passages` made;
# `more` may be left.
#
# Any number of processes may run it at once. Queue rows are locked in one order; whoever comes second finds them gone.
# For messages the queue names the thread, and the conversation's `indexed_seq` says how far it is done. Many messages
# are read while the conversation is only kept from being removed: its writers go on meanwhile, and wait for no more
# than the moment at the end in which it is looked whether the queue row may go. A message that came in between keeps
# it there; one that was moved below the range, or into the state, is made up for.
INDEX_QUEUED = (
    """
CREATE FUNCTION index_queued(of_tenant text, languages text[], quiet_tools text[])
RETURNS TABLE (rows bigint, passages bigint, more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET max_parallel_workers_per_gather = 0 SET jit = off AS $body$
#variable_conflict use_column
DECLARE
    facts CONSTANT integer := 2000;
    messages CONSTANT integer := 500;
    threads CONSTANT integer := 200;
    chunks CONSTANT integer := 500;
    few CONSTANT integer := 20;
    salt integer;
    language regconfig;
    items text[];
    since bigint[];
    until bigint[];
    hidden boolean[];
    waiting bigint;
    made bigint;
BEGIN
    of_tenant := checked_tenant(of_tenant);
    rows := 0;
    passages := 0;
    more := false;
    languages := coalesce((SELECT l.languages FROM search_languages l WHERE l.tenant_id = of_tenant), languages);
    IF cardinality(languages) = 1 THEN
        language := languages[1]::regconfig;
    END IF;
    salt := term_id(of_tenant) << 4;

    items := ARRAY(SELECT item FROM index_queue WHERE tenant_id = of_tenant AND kind = 1
                   ORDER BY item LIMIT facts FOR UPDATE);
    IF items <> '{}' THEN
        rows := rows + cardinality(items);
        more := more OR cardinality(items) = facts;
        DELETE FROM index_queue WHERE tenant_id = of_tenant AND kind = 1 AND item = ANY (items);
        WITH source AS (
            SELECT m.id, m.user_id, m.thread_id, NULL::bigint AS seq, NULL::uuid AS document_id, NULL::text AS speaker,
                   m.recorded_at AS said_at, m.superseded_at AS live_until, m.content, m.content AS told
            FROM unnest(items::uuid[]) AS i (id)
            CROSS JOIN LATERAL (SELECT * FROM memories m WHERE m.tenant_id = of_tenant AND m.id = i.id OFFSET 0) AS m
        ),{facts}
    END IF;

    items := ARRAY(SELECT item FROM index_queue WHERE tenant_id = of_tenant AND kind = 2
                   ORDER BY item LIMIT threads FOR UPDATE);
    IF items <> '{}' THEN
        rows := rows + cardinality(items);
        more := more OR cardinality(items) = threads;
        SELECT coalesce(sum(c.message_seq - c.indexed_seq), 0) INTO waiting FROM conversations c
        WHERE c.tenant_id = of_tenant AND c.thread_id = ANY (items);
        IF waiting > few THEN
            PERFORM FROM conversations c WHERE c.tenant_id = of_tenant AND c.thread_id = ANY (items)
            ORDER BY c.thread_id FOR KEY SHARE;
        ELSE
            PERFORM FROM conversations c WHERE c.tenant_id = of_tenant AND c.thread_id = ANY (items)
            ORDER BY c.thread_id FOR NO KEY UPDATE;
        END IF;
        -- a thread that is gone has nothing to index, and no row below
        DELETE FROM index_queue q WHERE q.tenant_id = of_tenant AND q.kind = 2 AND q.item = ANY (items)
          AND NOT EXISTS (SELECT FROM conversations c WHERE c.tenant_id = of_tenant AND c.thread_id = q.item);
        SELECT array_agg(c.thread_id ORDER BY c.thread_id), array_agg(c.indexed_seq ORDER BY c.thread_id),
               array_agg(c.indexed_seq + least(c.new, greatest(0, messages - c.before)) ORDER BY c.thread_id),
               array_agg(c.forgotten_at IS NOT NULL ORDER BY c.thread_id)
        INTO items, since, until, hidden
        FROM (
            SELECT thread_id, indexed_seq, forgotten_at, new, sum(new) OVER (ORDER BY thread_id) - new AS before
            FROM (SELECT thread_id, indexed_seq, forgotten_at, greatest(0, message_seq - indexed_seq) AS new
                  FROM conversations WHERE tenant_id = of_tenant AND thread_id = ANY (items)) AS each
        ) AS c;
        LOOP
            EXIT WHEN items IS NULL;
            WITH source AS (
                SELECT m.id, c.user_id, c.thread_id, m.seq, NULL::uuid AS document_id,
                       coalesce(m.name, m.role) AS speaker, m.said_at,
                       CASE WHEN t.hidden THEN '-infinity'::timestamptz END AS live_until,
                       coalesce(m.name || ': ', '') || m.text AS content, m.text AS told
                FROM unnest(items, since, until, hidden) AS t (thread_id, since, until, hidden)
                CROSS JOIN LATERAL (
                    SELECT c.thread_id, c.user_id FROM conversations c
                    WHERE c.tenant_id = of_tenant AND c.thread_id = t.thread_id OFFSET 0) AS c
                CROSS JOIN LATERAL (
                    SELECT * FROM messages m
                    WHERE m.tenant_id = of_tenant AND m.thread_id = t.thread_id AND m.seq > t.since AND m.seq <= t.until
                    ORDER BY m.seq) AS m
                WHERE m.origin <> 2 AND m.text <> '' AND m.role <> 'remove'
                  AND NOT (m.role = 'tool' AND m.name = ANY (quiet_tools))
                  AND NOT EXISTS (SELECT FROM passages p WHERE p.tenant_id = of_tenant AND p.id = m.id)
            ),{messages}
            EXIT WHEN waiting <= few;
            waiting := 0;
            PERFORM FROM conversations c WHERE c.tenant_id = of_tenant AND c.thread_id = ANY (items)
            ORDER BY c.thread_id FOR NO KEY UPDATE;
            UPDATE passages p SET live_until = CASE WHEN NOT t.hidden THEN '-infinity'::timestamptz END
            FROM unnest(items, hidden) AS t (thread_id, hidden)
            JOIN conversations c ON c.tenant_id = of_tenant AND c.thread_id = t.thread_id
             AND (c.forgotten_at IS NOT NULL) <> t.hidden
            WHERE p.tenant_id = of_tenant AND p.thread_id = t.thread_id AND p.kind = 2;
            SELECT array_agg(least(t.since, c.indexed_seq) ORDER BY t.place),
                   array_agg(c.forgotten_at IS NOT NULL ORDER BY t.place)
            INTO since, hidden
            FROM unnest(items, since) WITH ORDINALITY AS t (thread_id, since, place)
            JOIN conversations c ON c.tenant_id = of_tenant AND c.thread_id = t.thread_id;
        END LOOP;
        IF items IS NOT NULL THEN
            WITH marked AS (
                UPDATE conversations c SET indexed_seq = greatest(c.indexed_seq, t.until)
                FROM unnest(items, until) AS t (thread_id, until)
                WHERE c.tenant_id = of_tenant AND c.thread_id = t.thread_id
                RETURNING c.thread_id, c.indexed_seq >= c.message_seq AS done
            ), gone AS (
                DELETE FROM index_queue q WHERE q.tenant_id = of_tenant AND q.kind = 2
                  AND q.item = ANY (ARRAY(SELECT m.thread_id FROM marked m WHERE m.done))
            )
            SELECT more OR NOT bool_and(m.done) INTO more FROM marked m;
        END IF;
    END IF;

    items := ARRAY(SELECT item FROM index_queue WHERE tenant_id = of_tenant AND kind = 3
                   ORDER BY item LIMIT chunks FOR UPDATE);
    IF items <> '{}' THEN
        rows := rows + cardinality(items);
        more := more OR cardinality(items) = chunks;
        DELETE FROM index_queue WHERE tenant_id = of_tenant AND kind = 3 AND item = ANY (items);
        WITH source AS (
            SELECT c.id, d.user_id, NULL::text AS thread_id, NULL::bigint AS seq, c.document_id, NULL::text AS speaker,
                   d.updated_at AS said_at, NULL::timestamptz AS live_until,
                   d.title || E'\\n' || array_to_string(c.heading_path, E'\\n') || E'\\n' || c.text AS content,
                   c.text AS told
            FROM unnest(items::uuid[]) AS i (id)
            CROSS JOIN LATERAL (SELECT * FROM chunks c WHERE c.tenant_id = of_tenant AND c.id = i.id OFFSET 0) AS c
            CROSS JOIN LATERAL (
                SELECT * FROM documents d WHERE d.tenant_id = of_tenant AND d.id = c.document_id OFFSET 0) AS d
        ),{chunks}
    END IF;
    RETURN NEXT;
END $body$
""".replace("{facts}", _stored(1, 12))
    .replace("{messages}", _stored(2, 16))
    .replace("{chunks}", _stored(3, 100))
)

# Whatever deletes a passage, the statistics of its words stay true; the row of the corpus first, as everywhere.
COUNT_CORPUS = """    EXECUTE format('INSERT INTO %1$I.corpus_statistics AS c (tenant_id, kind, passages, total_length)
        SELECT tenant_id, kind, -count(*), -sum(length) FROM gone GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (tenant_id, kind) DO UPDATE
        SET passages = greatest(0, c.passages + excluded.passages),
            total_length = greatest(0, c.total_length + excluded.total_length)', tg_table_schema);
"""
COUNT_TERMS = """    EXECUTE format('INSERT INTO %1$I.term_statistics AS t (tenant_id, kind, term, passages)
        SELECT tenant_id, kind, %1$I.term_id(lexeme), -count(DISTINCT id) FROM gone, unnest(lexemes)
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (tenant_id, kind, term) DO UPDATE SET passages = greatest(0, t.passages + excluded.passages)',
        tg_table_schema);
"""


def _passages_gone(*counts: str) -> str:
    return f"""
CREATE OR REPLACE FUNCTION passages_gone() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
{"".join(counts)}    RETURN NULL;
END $body$
"""


# Words without accents in all of their letters are as they are; most are, and to fold them takes as long as to read
# the text.
FOLDED = (
    r"(translate(replace(regexp_replace(normalize(lexemes::text, NFD), '[\u0300-\u036f]+', '', 'g'), 'ß', 'ss'),"
    " 'łŁøØđĐħĦı', 'lLoOdDhHi'))::tsvector"
)
FOLDED_INDEX = "CREATE INDEX passages_folded_idx ON passages USING gin (({})) WITH ({}) WHERE kind = 2"
FOLDED_NOW = f"CASE WHEN octet_length(lexemes::text) = char_length(lexemes::text) THEN lexemes ELSE {FOLDED} END"

# New entries are kept in a list, which is short enough for a search to go through, and put in their places together.
LISTED = "fastupdate = on, gin_pending_list_limit = 256"

TABLES = (
    "agent_settings, checkpoint_blobs, checkpoint_writes, checkpoints, chunk_places, chunks, conversations, "
    "corpus_statistics, document_versions, documents, embedding_models, embedding_queue, embeddings, feedback, "
    "forgotten_users, index_queue, listeners, memories, messages, passages, proposals, search_languages, "
    "shared_conversations, term_statistics, tokens, user_memory, working_memory"
)

# A way back to the beginning changes every table, while other sessions may use them in any order. Whoever waits for
# one lock with another in hand gives all of them back before the server would call it a deadlock and end somebody's
# statement.
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
""".replace("$TABLES", TABLES)

# forwards, and what takes it back (None where another one does)
STEPS: tuple[tuple[str | None, str | None], ...] = (
    (LOCKS, None),
    (FOUND_AT_ONCE, "DROP FUNCTION found_at_once"),
    (FOUND_BY_TERMS, "DROP FUNCTION found_by_terms"),
    *ALONE,
    (READS_LIKE_INSTRUCTION, "DROP FUNCTION reads_like_instruction(text)"),
    (INDEX_QUEUED, "DROP FUNCTION index_queued(text, text[], text[])"),
    (_passages_gone(COUNT_CORPUS, COUNT_TERMS), _passages_gone(COUNT_TERMS, COUNT_CORPUS)),
    (
        f"ALTER INDEX passages_keys_idx SET ({LISTED})",
        "ALTER INDEX passages_keys_idx RESET (gin_pending_list_limit)",
    ),
    (None, "ALTER INDEX passages_keys_idx SET (fastupdate = off)"),
    (None, FOLDED_INDEX.format(FOLDED, "fastupdate = off")),
    ("DROP INDEX passages_folded_idx", "DROP INDEX passages_folded_idx"),
    (FOLDED_INDEX.format(FOLDED_NOW, LISTED), None),
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
