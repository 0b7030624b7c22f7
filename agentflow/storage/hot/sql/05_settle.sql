-- Records what an attempt did, and does what follows: outputs, deliveries, newly QUEUED executions.
-- One round trip, durable. The token fences off whatever a lost worker tries later.
--
-- agentflow_settle   RUNNING → COMPLETED | FAILED | QUEUED (a retry) | WAITING (p_more says for what); p_status NULL: a
--                    flush, it stays RUNNING
-- agentflow_release  routes the outputs that waited for this execution
--
-- p_first, p_count   the ordinals stored here are p_first … p_first + p_count − 1; `emitted` must be p_first (fence)
-- p_ordered          the outputs of execution k go out before those of k + 1
-- o_*                outputs: ordinal, part, pin, value (JSON text)
-- r_*                routes: which output goes to which sink and pin (see 04_place.sql)
--
-- verdict: landed    recorded, now or by an earlier call with the same token whose reply was lost
--          lost      the lease is another's, or the node execution is closed: nothing was recorded
--          stopped   the run was stopped: only CANCELLED was recorded (nothing, for a flush)
-- q_*:     what became QUEUED and must be published
-- p_window busy node executions of a run at most; those that become ready beyond are held, so that a run of 100,000 does
--          not fill the queues before everybody else's. Each that ends unholds one, or gives its place to what it made
--          ready. The executions of one node pass in the order of their indices
-- p_more   what else happens in the transaction, as JSON; usually null: nothing. See agentflow_consequences
-- also     the result of that, as JSON; usually null. One column, because each column costs every settle
-- crowded: more of the run is busy than there can be settles under way: this one cannot be its last, so nobody has to look
-- release_after: not null: outputs of later executions still wait; call agentflow_release with this index

CREATE OR REPLACE FUNCTION agentflow_settle(
    p_run uuid, p_node int, p_idx int, p_token uuid, p_first int, p_count int,
    p_status text, p_reason text, p_error text, p_delay float8, p_lease float8, p_ordered boolean,
    o_ord int[], o_part int[], o_pin text[], o_value text[],
    r_ord int[], r_part int[], r_sink int[], r_pin text[], r_static boolean[], r_need int[], r_base int[], r_sticky boolean[],
    p_window int, p_more json,
    OUT verdict text, OUT q_node int[], OUT q_idx int[], OUT release_after int, OUT crowded boolean, OUT also json
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_stop_as text;
    v_turn boolean := true;
    v_closes boolean := p_status IN ('COMPLETED', 'FAILED');
    v_now timestamptz;
    v_attempt int;
    v_held record;
    v_locked boolean;
BEGIN
    v_locked := agentflow_gate_shared(p_run);
    SELECT r.stop_as INTO v_stop_as FROM runs r WHERE r.id = p_run;
    v_now := agentflow_now();

    IF v_stop_as IS NOT NULL THEN
        IF p_status IS NOT NULL THEN
            UPDATE node_executions e SET status = 'CANCELLED', open = false, ended_at = v_now
            WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'RUNNING' AND e.token = p_token
            RETURNING e.attempt INTO v_attempt;
            IF FOUND THEN
                INSERT INTO events (run_id, kind, status, node, idx, attempt)
                VALUES (p_run, 'settled', 'CANCELLED', p_node, p_idx, v_attempt);
                IF p_more IS NOT NULL THEN
                    SELECT c.also INTO also FROM agentflow_consequences(p_run, p_node, p_idx, p_more, false) c;
                END IF;
            END IF;
        END IF;
        verdict := 'stopped';
        RETURN;
    END IF;

    -- 1. Whether it is our turn. Routed is final: if the predecessor is, no lock is needed.
    IF p_ordered AND p_idx > 1 THEN
        SELECT NOT e.open INTO v_turn FROM node_executions e WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx - 1;
        IF NOT v_turn THEN
            SELECT NOT e.open INTO v_turn FROM node_executions e
            WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx - 1 FOR NO KEY UPDATE;
        END IF;
    END IF;

    -- 2. The fence. (Four statements, because each column that is set costs every settle, and few wait or retry.)
    IF p_status = 'WAITING' THEN
        UPDATE node_executions e SET
            status = p_status, reason = p_reason, error = p_error, emitted = p_first + p_count, hold = 'waiting',
            lease_until = NULL,  -- so that the claim after the wait goes on with this attempt
            waited = e.waited + 1, resumed_from = p_first + p_count, due_at = NULL, check_at = 'infinity'
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx
          AND e.status = 'RUNNING' AND e.token = p_token AND e.emitted = p_first
        RETURNING e.attempt INTO v_attempt;
    ELSIF v_closes AND v_turn THEN
        UPDATE node_executions e SET
            status = p_status, reason = p_reason, error = p_error, emitted = p_first + p_count, open = false,
            ended_at = v_now, failures = e.failures + CASE p_status WHEN 'FAILED' THEN 1 ELSE 0 END
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx
          AND e.status = 'RUNNING' AND e.token = p_token AND e.emitted = p_first
        RETURNING e.attempt INTO v_attempt;
    ELSIF v_closes THEN  -- it is done, and stays open because its outputs wait for their turn
        UPDATE node_executions e SET
            status = p_status, reason = p_reason, error = p_error, emitted = p_first + p_count, hold = 'turn',
            ended_at = v_now, failures = e.failures + CASE p_status WHEN 'FAILED' THEN 1 ELSE 0 END
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx
          AND e.status = 'RUNNING' AND e.token = p_token AND e.emitted = p_first
        RETURNING e.attempt INTO v_attempt;
    ELSE
        UPDATE node_executions e SET
            status = coalesce(p_status, 'RUNNING'), reason = p_reason, error = p_error, emitted = p_first + p_count,
            failures = e.failures + CASE p_status WHEN 'QUEUED' THEN 1 ELSE 0 END,
            lease_until = CASE WHEN p_status IS NULL THEN v_now + make_interval(secs => p_lease) ELSE e.lease_until END,
            due_at = CASE WHEN p_status = 'QUEUED' THEN v_now + make_interval(secs => p_delay) END,
            queued_at = CASE WHEN p_status = 'QUEUED' THEN v_now ELSE e.queued_at END,
            check_at = CASE WHEN p_status = 'QUEUED' THEN v_now + make_interval(secs => p_delay) ELSE e.check_at END,
            republished = CASE WHEN p_status = 'QUEUED' THEN 0 ELSE e.republished END
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx
          AND e.status = 'RUNNING' AND e.token = p_token AND e.emitted = p_first
        RETURNING e.attempt INTO v_attempt;
    END IF;
    IF NOT FOUND THEN
        -- The same call again, because its reply was lost: it landed, and recovery finds what it made QUEUED.
        verdict := CASE WHEN EXISTS (
            SELECT FROM node_executions e WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx
            AND e.token = p_token AND e.emitted = p_first + p_count AND e.status = coalesce(p_status, 'RUNNING')
            AND (p_count > 0 OR p_status IS NOT NULL)) THEN 'landed' ELSE 'lost' END;
        RETURN;
    END IF;
    verdict := 'landed';

    -- 3. Outputs, once each.
    IF cardinality(o_ord) = 1 THEN  -- half the cost of a set
        INSERT INTO outputs (run_id, node, idx, ordinal, part, pin, value)
        VALUES (p_run, p_node, p_idx, o_ord[1], o_part[1], o_pin[1], o_value[1]);
    ELSIF o_ord <> '{}' THEN
        INSERT INTO outputs (run_id, node, idx, ordinal, part, pin, value)
        SELECT p_run, p_node, p_idx, o.ord, o.part, o.pin, o.value
        FROM unnest(o_ord, o_part, o_pin, o_value) AS o(ord, part, pin, value);
    END IF;
    INSERT INTO events (run_id, at, kind, status, reason, node, idx, attempt, first, count)
    VALUES (p_run, v_now, CASE WHEN p_status IS NULL THEN 'flushed' ELSE 'settled' END, coalesce(p_status, 'RUNNING'),
            p_reason, p_node, p_idx, v_attempt, p_first, p_count);

    -- 4. Not our turn: park the routes. Whoever closes the gap releases them.
    IF NOT v_turn THEN
        IF r_ord <> '{}' THEN
            INSERT INTO parked_routes (run_id, node, idx, first, ordinals, parts, sinks, pins, statics, needs, bases, sticky_sinks)
            VALUES (p_run, p_node, p_idx, p_first, r_ord, r_part, r_sink, r_pin, r_static, r_need, r_base, r_sticky);
        END IF;

    -- 5. Our turn: place our values, and then those of the successors that waited for us.
    ELSIF r_ord <> '{}' THEN
        v_locked := agentflow_sink_locks(p_run, r_sink);
        v_held := agentflow_place(p_run, p_node, array_fill(p_idx, ARRAY[cardinality(r_ord)]), r_ord, r_part, r_sink,
                                  r_pin, r_static, r_need, r_base, r_sticky);
        q_node := v_held.q_node;
        q_idx := v_held.q_idx;
    END IF;
    IF v_closes AND v_turn AND p_ordered AND EXISTS (
        SELECT FROM node_executions e WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx + 1
    ) THEN
        v_held := agentflow_release_after(p_run, p_node, p_idx);
        q_node := q_node || v_held.q_node;
        q_idx := q_idx || v_held.q_idx;
        release_after := v_held.release_after;
    END IF;

    -- 6. The window. The most frequent case costs one look-up: we close, and what we made ready takes our place.
    IF v_closes AND cardinality(q_node) = 1 THEN
        IF EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.hold = 'window' AND e.node = q_node[1]) THEN
            v_held := agentflow_swap(p_run, q_node[1], q_idx[1]);
            q_node := v_held.q_node;
            q_idx := v_held.q_idx;
        END IF;
    ELSIF q_node IS NOT NULL THEN
        SELECT k.q_node, k.q_idx INTO q_node, q_idx FROM agentflow_keep_window(p_run, p_window, q_node, q_idx) k;
    ELSIF (v_closes OR p_status = 'WAITING')
          AND EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.hold = 'window') THEN
        v_held := agentflow_unhold(p_run, 'window', 1);
        q_node := v_held.q_node;
        q_idx := v_held.q_idx;
    END IF;
    IF v_closes AND q_node IS NULL THEN
        crowded := EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open AND e.hold IS NULL
                           OFFSET current_setting('max_connections')::int);
    END IF;

    -- 7. What else follows.
    IF p_more IS NOT NULL THEN
        v_held := agentflow_consequences(p_run, p_node, p_idx, p_more, true);
        also := v_held.also;
        IF v_held.wakes THEN
            q_node := q_node || p_node;
            q_idx := q_idx || p_idx;
        END IF;
    END IF;
END $$;

-- Fills the window from what just became QUEUED and what was held before, and holds the rest. No execution passes an
-- earlier one of its node that is held: once done it would wait for its turn, until the window held nothing else.
CREATE OR REPLACE FUNCTION agentflow_keep_window(
    p_run uuid, p_window int, p_node int[], p_idx int[], OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_count int := cardinality(p_node);
    v_room int;
    v record;
BEGIN
    SELECT p_window + v_count - count(*) INTO v_room FROM (
        SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open AND e.hold IS NULL LIMIT p_window + v_count) b;
    SELECT array_agg(n.node ORDER BY n.place) FILTER (WHERE n.place <= v_room) AS kept_node,
           array_agg(n.idx ORDER BY n.place) FILTER (WHERE n.place <= v_room) AS kept_idx,
           array_agg(n.node) FILTER (WHERE n.place IS NULL OR n.place > v_room) AS held_node,
           array_agg(n.idx) FILTER (WHERE n.place IS NULL OR n.place > v_room) AS held_idx
    INTO v FROM (
        SELECT c.node, c.idx, CASE WHEN NOT c.behind THEN
                   row_number() OVER (PARTITION BY c.behind ORDER BY c.node, c.idx) END AS place
        FROM (
            SELECT a.node, a.idx, a.node = ANY (ARRAY(
                       SELECT d.node FROM (SELECT DISTINCT u.node FROM unnest(p_node) AS u(node)) d
                       WHERE EXISTS (SELECT FROM node_executions e
                                     WHERE e.run_id = p_run AND e.hold = 'window' AND e.node = d.node))) AS behind
            FROM unnest(p_node, p_idx) AS a(node, idx)
        ) c
    ) n;
    q_node := v.kept_node;
    q_idx := v.kept_idx;
    IF v.held_node IS NOT NULL THEN
        UPDATE node_executions e SET hold = 'window', check_at = 'infinity'
        FROM unnest(v.held_node, v.held_idx) AS h(node, idx)
        WHERE e.run_id = p_run AND e.node = h.node AND e.idx = h.idx;
    END IF;
    v_room := v_room - coalesce(cardinality(q_node), 0);
    IF v_room > 0 AND EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.hold = 'window') THEN
        SELECT v.kept_node || o.q_node, v.kept_idx || o.q_idx INTO q_node, q_idx
        FROM agentflow_unhold(p_run, 'window', v_room) o;
    END IF;
END $$;

-- One became QUEUED behind others of its node that are held: holds it, and unholds the first of them instead.
CREATE OR REPLACE FUNCTION agentflow_swap(
    p_run uuid, p_node int, p_idx int, OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
    v_idx int;
BEGIN
    UPDATE node_executions e SET hold = 'window', check_at = 'infinity'
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
    UPDATE node_executions e SET hold = NULL, check_at = v_now + agentflow_publish_grace(), republished = 0, queued_at = v_now
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = (
        SELECT h.idx FROM node_executions h WHERE h.run_id = p_run AND h.hold = 'window' AND h.node = p_node
        ORDER BY h.idx LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING e.idx INTO v_idx;
    IF FOUND THEN
        q_node := ARRAY[p_node];
        q_idx := ARRAY[v_idx];
    END IF;
END $$;

-- Continues where a settle or an earlier release stopped: p_idx is closed and routed.
CREATE OR REPLACE FUNCTION agentflow_release(
    p_run uuid, p_node int, p_idx int, p_window int, OUT q_node int[], OUT q_idx int[], OUT release_after int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM agentflow_gate_shared(p_run);
    -- Who holds this row is releasing from it. A stopped run delivers nothing.
    PERFORM FROM node_executions e WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND NOT e.open
    FOR NO KEY UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM runs r WHERE r.id = p_run AND r.stop_as IS NOT NULL) THEN
        RETURN;
    END IF;
    SELECT l.q_node, l.q_idx, l.release_after INTO q_node, q_idx, release_after FROM agentflow_release_after(p_run, p_node, p_idx) l;
    IF q_node IS NOT NULL THEN
        SELECT k.q_node, k.q_idx INTO q_node, q_idx FROM agentflow_keep_window(p_run, p_window, q_node, q_idx) k;
    END IF;
END $$;

-- At most 256 executions a call: releasing 8,000 in one transaction would hold its locks for a third of a second.
CREATE OR REPLACE FUNCTION agentflow_release_after(
    p_run uuid, p_node int, p_idx int, OUT q_node int[], OUT q_idx int[], OUT release_after int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_last int := p_idx;
    v record;
BEGIN
    LOOP
        IF v_last - p_idx >= 256 THEN
            release_after := v_last;
            UPDATE node_executions e SET check_at = agentflow_now() + agentflow_publish_grace()  -- in case our caller dies
            WHERE e.run_id = p_run AND e.node = p_node AND e.idx = v_last + 1 AND e.hold = 'turn';
            EXIT;
        END IF;
        -- `open` as a number: with the bare column the planner takes the partial index of all that is open in the run.
        UPDATE node_executions e SET open = false, hold = NULL
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = v_last + 1
          AND e.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND e.open::int = 1;
        EXIT WHEN NOT FOUND;
        v_last := v_last + 1;
    END LOOP;
    -- The one after the last may still run: it is its turn now, so what it has flushed is placed, too.
    WITH held AS (
        DELETE FROM parked_routes p
        WHERE p.run_id = p_run AND p.node = p_node AND p.idx BETWEEN p_idx + 1 AND v_last + 1 RETURNING p.*
    ), flat AS (
        SELECT h.idx, h.first, a.* FROM held h,
            unnest(h.ordinals, h.parts, h.sinks, h.pins, h.statics, h.needs, h.bases, h.sticky_sinks)
            WITH ORDINALITY AS a(ord, part, sink, pin, static, need, base, sticky, i)
    )
    SELECT array_agg(f.idx ORDER BY f.idx, f.first, f.i) AS src, array_agg(f.ord ORDER BY f.idx, f.first, f.i) AS ord,
           array_agg(f.part ORDER BY f.idx, f.first, f.i) AS part, array_agg(f.sink ORDER BY f.idx, f.first, f.i) AS sink,
           array_agg(f.pin ORDER BY f.idx, f.first, f.i) AS pin, array_agg(f.static ORDER BY f.idx, f.first, f.i) AS static,
           array_agg(f.need ORDER BY f.idx, f.first, f.i) AS need, array_agg(f.base ORDER BY f.idx, f.first, f.i) AS base,
           array_agg(f.sticky ORDER BY f.idx, f.first, f.i) AS sticky
    INTO v FROM flat f;
    IF v.src IS NOT NULL THEN
        PERFORM agentflow_sink_locks(p_run, v.sink);
        SELECT p.q_node, p.q_idx INTO q_node, q_idx
        FROM agentflow_place(p_run, p_node, v.src, v.ord, v.part, v.sink, v.pin, v.static, v.need, v.base, v.sticky) p;
    END IF;
END $$;
