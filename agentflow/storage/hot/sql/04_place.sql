-- Places arriving values: decides which execution of a sink gets each value, and which of them become QUEUED.
--
-- The rule: a value goes to the oldest INCOMPLETE execution of the sink that has none on that pin; if
-- there is none, a new one is made. The executions that have pin p are always a prefix, and the INCOMPLETE ones always
-- a suffix. So that execution is one above the last that got a value on this pin: one backward look-up in the key of
-- `deliveries`, and no counter.
--
-- A static pin (one fed by a static link) keeps its last value, which counts for every execution. What becomes QUEUED
-- gets it as a delivery of its own (`filled`), so that a claim needs no special case.
--
-- In all functions the arrays run in parallel, a place for each arriving value, in the order of arrival:
--   src (index of the source's execution), ord, part (which output), sink, pin, static (came over a static link),
--   need (linked pins of the sink), base (lowest index that this pin may be delivered to), sticky (the sink has a static
--   pin).
-- The caller holds the sink locks.

CREATE OR REPLACE FUNCTION agentflow_place(
    p_run uuid, p_node int,
    a_src int[], a_ord int[], a_part int[], a_sink int[], a_pin text[], a_static boolean[],
    a_need int[], a_base int[], a_sticky boolean[],
    OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_sink record;
    v_idx int[];
    v_one int;
BEGIN
    IF cardinality(a_sink) = 1 AND NOT a_sticky[1] THEN
        v_one := agentflow_place_one(p_run, p_node, a_src[1], a_ord[1], a_part[1], a_sink[1], a_pin[1], a_need[1], a_base[1]);
        IF v_one IS NOT NULL THEN
            q_node := a_sink;
            q_idx := ARRAY[v_one];
        END IF;
        RETURN;
    END IF;
    IF false = ANY (a_sticky) THEN
        SELECT p.q_node, p.q_idx INTO q_node, q_idx
        FROM agentflow_place_set(p_run, p_node, a_src, a_ord, a_part, a_sink, a_pin, a_need, a_base, a_sticky, '{}') p;
    END IF;
    IF true = ANY (a_sticky) THEN
        FOR v_sink IN
            SELECT a.sink, array_agg(a.src ORDER BY a.i) AS src, array_agg(a.ord ORDER BY a.i) AS ord,
                   array_agg(a.part ORDER BY a.i) AS part, array_agg(a.pin ORDER BY a.i) AS pin,
                   array_agg(a.static ORDER BY a.i) AS static, array_agg(a.base ORDER BY a.i) AS base,
                   min(a.need) AS need
            FROM unnest(a_src, a_ord, a_part, a_sink, a_pin, a_static, a_need, a_base, a_sticky)
                 WITH ORDINALITY AS a(src, ord, part, sink, pin, static, need, base, sticky, i)
            WHERE a.sticky GROUP BY a.sink ORDER BY a.sink
        LOOP
            v_idx := agentflow_place_sticky(p_run, p_node, v_sink.sink, v_sink.src, v_sink.ord, v_sink.part,
                                            v_sink.pin, v_sink.static, v_sink.need, v_sink.base);
            q_idx := q_idx || v_idx;
            q_node := q_node || array_fill(v_sink.sink, ARRAY[cardinality(v_idx)]);
        END LOOP;
    END IF;
END $$;

-- One value over a plain link: the most frequent case, at half the cost of the general one below. Returns the index that
-- became QUEUED by it, if one did.
CREATE OR REPLACE FUNCTION agentflow_place_one(
    p_run uuid, p_node int, p_src int, p_ord int, p_part int, p_sink int, p_pin text, p_need int, p_base int
) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
    v_idx int;
    v_open boolean;
BEGIN
    v_idx := greatest(p_base, 1 + (SELECT d.idx FROM deliveries d WHERE d.run_id = p_run AND d.node = p_sink
                                   AND d.pin = p_pin ORDER BY d.idx DESC LIMIT 1));
    INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
    VALUES (p_run, p_sink, p_pin, v_idx, p_node, p_src, p_ord, p_part, false);
    INSERT INTO node_executions AS e (run_id, node, idx, have, need, open, status, queued_at, check_at)
    VALUES (p_run, p_sink, v_idx, 1, p_need, p_need = 1, CASE WHEN p_need = 1 THEN 'QUEUED' ELSE 'INCOMPLETE' END,
            CASE WHEN p_need = 1 THEN v_now END, v_now + agentflow_publish_grace())
    ON CONFLICT (run_id, node, idx) DO UPDATE SET
        have = e.have + 1, open = e.have + 1 = e.need,
        status = CASE WHEN e.have + 1 = e.need THEN 'QUEUED' ELSE 'INCOMPLETE' END,
        queued_at = CASE WHEN e.have + 1 = e.need THEN v_now END, check_at = excluded.check_at
    WHERE e.status = 'INCOMPLETE'
    RETURNING e.open INTO v_open;
    RETURN CASE WHEN v_open THEN v_idx END;
END $$;

-- Values over plain links, to any number of sinks, in one statement. It skips places where a_skip is true.
-- p_known: the static pins of the one sink in question that have a value, which counts for every execution.
-- The windows compute each value's index without a join: under a generic plan a join of sets becomes a nested loop.
CREATE OR REPLACE FUNCTION agentflow_place_set(
    p_run uuid, p_node int,
    a_src int[], a_ord int[], a_part int[], a_sink int[], a_pin text[], a_need int[], a_base int[],
    a_skip boolean[], p_known text[],
    OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_known int := cardinality(p_known);
    v_now timestamptz := agentflow_now();
BEGIN
    WITH arriving AS MATERIALIZED (
        SELECT a.*, row_number() OVER (PARTITION BY a.sink, a.pin ORDER BY a.i) AS nth
        FROM unnest(a_src, a_ord, a_part, a_sink, a_pin, a_need, a_base, a_skip)
             WITH ORDINALITY AS a(src, ord, part, sink, pin, need, base, skip, i)
        WHERE NOT a.skip
    ), placed AS MATERIALIZED (
        SELECT a.*, (a.nth - 1 + max(CASE WHEN a.nth = 1 THEN greatest(a.base, 1 + (
            SELECT d.idx FROM deliveries d WHERE d.run_id = p_run AND d.node = a.sink AND d.pin = a.pin
            ORDER BY d.idx DESC LIMIT 1)) END) OVER (PARTITION BY a.sink, a.pin))::int AS idx
        FROM arriving a
    ), delivered AS (
        INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
        SELECT p_run, p.sink, p.pin, p.idx, p_node, p.src, p.ord, p.part, false FROM placed p
    ), grown AS (
        SELECT p.sink, p.idx, p.need, v_known + count(*) FILTER (WHERE p.pin <> ALL (p_known)) AS have
        FROM placed p GROUP BY p.sink, p.idx, p.need
    ), counted AS (
        INSERT INTO node_executions AS e (run_id, node, idx, have, need, open, status, queued_at, check_at)
        SELECT p_run, g.sink, g.idx, g.have, g.need, g.have = g.need,
               CASE WHEN g.have = g.need THEN 'QUEUED' ELSE 'INCOMPLETE' END,
               CASE WHEN g.have = g.need THEN v_now END, v_now + agentflow_publish_grace()
        FROM grown g ORDER BY g.sink, g.idx
        ON CONFLICT (run_id, node, idx) DO UPDATE SET
            have = e.have + excluded.have - v_known,
            open = e.have + excluded.have - v_known = e.need,
            status = CASE WHEN e.have + excluded.have - v_known = e.need THEN 'QUEUED' ELSE 'INCOMPLETE' END,
            queued_at = CASE WHEN e.have + excluded.have - v_known = e.need THEN v_now END,
            check_at = excluded.check_at
        WHERE e.status = 'INCOMPLETE'
        RETURNING e.node, e.idx, e.open
    )
    SELECT array_agg(c.node ORDER BY c.node, c.idx), array_agg(c.idx ORDER BY c.node, c.idx) INTO q_node, q_idx
    FROM counted c WHERE c.open;
END $$;

-- Values for one sink with static pins: consecutive plain values as a set, each static value by itself.
CREATE OR REPLACE FUNCTION agentflow_place_sticky(
    p_run uuid, p_node int, p_sink int,
    a_src int[], a_ord int[], a_part int[], a_pin text[], a_static boolean[], p_need int, a_base int[]
) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    v_known text[];
    v_queued int[];
    v_all int[] := '{}';
    v_from int := 1;
    v_to int;
    v_count int := cardinality(a_pin);
BEGIN
    SELECT coalesce(array_agg(s.pin), '{}') INTO v_known FROM sticky_values s WHERE s.run_id = p_run AND s.node = p_sink;
    WHILE v_from <= v_count LOOP
        v_to := v_from;
        IF a_static[v_from] THEN
            v_queued := agentflow_place_static(p_run, p_node, p_sink, a_src[v_from], a_ord[v_from], a_part[v_from],
                                               a_pin[v_from], p_need, a_base[v_from], v_known);
            IF a_pin[v_from] <> ALL (v_known) THEN
                v_known := v_known || a_pin[v_from];
            END IF;
        ELSE
            WHILE v_to < v_count AND NOT a_static[v_to + 1] LOOP
                v_to := v_to + 1;
            END LOOP;
            SELECT coalesce(p.q_idx, '{}') INTO v_queued
            FROM agentflow_place_set(
                p_run, p_node, a_src[v_from:v_to], a_ord[v_from:v_to], a_part[v_from:v_to],
                array_fill(p_sink, ARRAY[v_to - v_from + 1]), a_pin[v_from:v_to],
                array_fill(p_need, ARRAY[v_to - v_from + 1]), a_base[v_from:v_to],
                a_static[v_from:v_to], v_known) p;
        END IF;
        IF v_queued <> '{}' THEN
            INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
            SELECT p_run, p_sink, s.pin, q.idx, s.source_node, s.source_idx, s.source_ordinal, s.source_part, true
            FROM sticky_values s, unnest(v_queued) AS q(idx) WHERE s.run_id = p_run AND s.node = p_sink
            ON CONFLICT DO NOTHING;  -- the execution has a value of its own on that pin
            v_all := v_all || v_queued;
        END IF;
        v_from := v_to + 1;
    END LOOP;
    RETURN v_all;
END $$;

-- One value over a static link. It is placed like any other, and becomes the pin's value. The first one counts for all
-- INCOMPLETE executions and may complete them, oldest first.
CREATE OR REPLACE FUNCTION agentflow_place_static(
    p_run uuid, p_node int, p_sink int, p_src int, p_ord int, p_part int, p_pin text,
    p_need int, p_base int, p_known text[]
) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    v_known int := cardinality(p_known);
    v_idx int;
    v_now timestamptz := agentflow_now();
    v_queued int[];
BEGIN
    v_idx := greatest(p_base, 1 + (SELECT d.idx FROM deliveries d WHERE d.run_id = p_run AND d.node = p_sink
                                   AND d.pin = p_pin ORDER BY d.idx DESC LIMIT 1));
    INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
    VALUES (p_run, p_sink, p_pin, v_idx, p_node, p_src, p_ord, p_part, false);
    INSERT INTO sticky_values AS s (run_id, node, pin, source_node, source_idx, source_ordinal, source_part)
    VALUES (p_run, p_sink, p_pin, p_node, p_src, p_ord, p_part)
    ON CONFLICT (run_id, node, pin) DO UPDATE SET source_node = excluded.source_node,
        source_idx = excluded.source_idx, source_ordinal = excluded.source_ordinal, source_part = excluded.source_part;
    IF p_pin = ANY (p_known) THEN
        -- All INCOMPLETE executions have the earlier value, so only a new execution can get this one.
        INSERT INTO node_executions (run_id, node, idx, have, need, open, status, queued_at, check_at)
        VALUES (p_run, p_sink, v_idx, v_known, p_need, v_known = p_need,
                CASE WHEN v_known = p_need THEN 'QUEUED' ELSE 'INCOMPLETE' END,
                CASE WHEN v_known = p_need THEN v_now END, v_now + agentflow_publish_grace())
        ON CONFLICT DO NOTHING;
        RETURN CASE WHEN FOUND AND v_known = p_need THEN ARRAY[v_idx] ELSE '{}'::int[] END;
    END IF;
    IF v_known + 1 = p_need THEN
        INSERT INTO node_executions (run_id, node, idx, have, need, open, status, queued_at, check_at)
        VALUES (p_run, p_sink, v_idx, v_known + 1, p_need, true, 'QUEUED', v_now, v_now + agentflow_publish_grace())
        ON CONFLICT DO NOTHING;
    ELSE
        INSERT INTO node_executions (run_id, node, idx, have, need, open, status, check_at)
        VALUES (p_run, p_sink, v_idx, v_known + 1, p_need, false, 'INCOMPLETE', v_now)
        ON CONFLICT DO NOTHING;
    END IF;
    IF FOUND THEN
        RETURN CASE WHEN v_known + 1 = p_need THEN ARRAY[v_idx] ELSE '{}'::int[] END;
    END IF;
    -- Executions from v_idx on lack this pin (those below had a plain value on it).
    WITH counted AS (
        UPDATE node_executions e SET
            have = e.have + 1, open = e.have + 1 = e.need,
            status = CASE WHEN e.have + 1 = e.need THEN 'QUEUED' ELSE e.status END,
            queued_at = CASE WHEN e.have + 1 = e.need THEN v_now END, check_at = v_now + agentflow_publish_grace()
        WHERE e.run_id = p_run AND e.node = p_sink AND e.idx >= v_idx AND e.status = 'INCOMPLETE'
        RETURNING e.idx, e.open
    )
    SELECT coalesce(array_agg(c.idx ORDER BY c.idx), '{}') INTO v_queued FROM counted c WHERE c.open;
    RETURN v_queued;
END $$;
