-- Waits without a worker: a WAITING row and its row in `waits`, until what it waits for has come.
--
-- agentflow_consequences what else a settlement does: wait, free a slot, wake the parent, add up …
-- agentflow_wake         WAITING → QUEUED, with what came
-- agentflow_wake_due     its time has come
-- agentflow_wake_parent  a child run gave an output, or ended
-- agentflow_signal       an external event
-- agentflow_review       a person has decided
--
-- Events and reviews are taken under the gate held alone, waits are written under it held shared: so no event is missed
-- between the look for one and the wait. A child wakes its parent while it holds its own gate: two gates are only ever
-- taken in this order, child before parent.

CREATE OR REPLACE FUNCTION agentflow_wake(
    p_run uuid, p_node int, p_idx int, p_result text, p_timed_out boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
    v_attempt int;
BEGIN
    UPDATE node_executions e SET status = 'QUEUED', hold = NULL, queued_at = v_now, republished = 0, due_at = NULL,
        check_at = v_now + agentflow_publish_grace()
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'WAITING'
    RETURNING e.attempt INTO v_attempt;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE waits w SET open = false, result = p_result, timed_out = p_timed_out,
        seconds = w.seconds + greatest(extract(epoch FROM v_now - w.since), 0)
    WHERE w.run_id = p_run AND w.node = p_node AND w.idx = p_idx;
    INSERT INTO events (run_id, kind, status, reason, node, idx, attempt)
    VALUES (p_run, 'woken', 'QUEUED', CASE WHEN p_timed_out THEN 'timeout' END, p_node, p_idx, v_attempt);
    RETURN true;
END $$;

-- What a person decided, as the block gets it. The data is JSON text.
CREATE OR REPLACE FUNCTION agentflow_review_result(p_approved boolean, p_data text, p_message text)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT '{"approved":' || p_approved || ',"data":' || p_data || ',"message":' || to_json(coalesce(p_message, ''))::text || '}'
$$;

CREATE OR REPLACE FUNCTION agentflow_wait(
    p_run uuid, p_node int, p_idx int, p_kind text, p_key text, p_seconds float8, p_state text,
    p_name text, p_data text, p_editable boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
-- Records what a node execution waits for that has just become WAITING. True: it has come, and the node execution is
-- QUEUED again. (A wait for a child has no timeout: seconds say that there is something to take already.)
DECLARE
    v_now timestamptz := agentflow_now();
    v_until timestamptz := v_now + make_interval(secs => p_seconds);
    v_nudged boolean;
    v_came boolean := false;
    v_result text;
BEGIN
    SELECT w.nudged INTO v_nudged FROM waits w WHERE w.run_id = p_run AND w.node = p_node AND w.idx = p_idx FOR UPDATE;
    INSERT INTO waits (run_id, node, idx, kind, key, open, until, state, since)
    VALUES (p_run, p_node, p_idx, p_kind, p_key, true, v_until, p_state, v_now)
    ON CONFLICT (run_id, node, idx) DO UPDATE SET kind = p_kind, key = p_key, open = true, until = v_until, state = p_state,
        since = v_now, result = NULL, timed_out = false, nudged = false;
    IF v_until IS NOT NULL THEN
        UPDATE node_executions e SET check_at = v_until WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
    END IF;
    IF p_kind = 'event' THEN
        UPDATE signals s SET taken_by_node = p_node, taken_by_idx = p_idx WHERE s.id = (
            SELECT t.id FROM signals t WHERE t.run_id = p_run AND t.name = p_key AND t.taken_by_node IS NULL
            ORDER BY t.id LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING s.payload INTO v_result;
        v_came := FOUND;
    ELSIF p_kind = 'review' THEN
        v_came := EXISTS (SELECT FROM review_policies o WHERE o.run_id = p_run AND o.node = p_node);
        v_result := CASE WHEN v_came THEN agentflow_review_result(true, p_data, '') END;
        INSERT INTO reviews (id, owner_id, run_id, node, idx, name, data, editable, status, decided_at)
        SELECT p_key::uuid, r.owner_id, p_run, p_node, p_idx, p_name, p_data, p_editable,
               CASE WHEN v_came THEN 'APPROVED' ELSE 'WAITING' END, CASE WHEN v_came THEN v_now END
        FROM runs r WHERE r.id = p_run;
        IF NOT v_came THEN
            PERFORM agentflow_note(r.owner_id, 'review_wanted', 'review:' || p_key, jsonb_build_object(
                'review', p_key, 'run', p_run, 'name', left(p_name, 200), 'graph', r.graph_id, 'graph_name', left(g.name, 200)))
            FROM runs r JOIN graphs g ON g.id = r.graph_id WHERE r.id = p_run;
        END IF;
    ELSIF p_kind = 'timer' THEN
        v_came := p_seconds <= 0;
    ELSIF p_kind = 'child' THEN
        v_came := p_seconds IS NOT NULL OR v_nudged IS TRUE OR EXISTS (
            SELECT FROM runs c WHERE c.parent_run_id = p_run AND c.parent_node = p_node AND c.parent_idx = p_idx
            AND c.parent_call = p_key AND c.ended_at IS NOT NULL);
    END IF;
    RETURN v_came AND agentflow_wake(p_run, p_node, p_idx, v_result, false);
END $$;

CREATE OR REPLACE FUNCTION agentflow_add_stats(p_stats jsonb, p_more jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(t.key, t.total) FROM (
        SELECT b.key, sum(b.value::numeric) AS total
        FROM (SELECT * FROM jsonb_each_text(coalesce(p_stats, '{}')) UNION ALL SELECT * FROM jsonb_each_text(p_more)) b
        GROUP BY b.key) t
$$;

-- What a settlement does in its transaction beyond what each does; p_more has a member for each.
--
--   stats         counts that the block reported, added to the node execution's; `cost` to the tree of runs' as well
--   wait          what it waits for (it is WAITING): kind, key, seconds, state; of a review also name, data, editable.
--                 State and data are JSON texts
--   frees_slot    it may hold slots of concurrency limits
--   wakes_parent  this run is a child run, and its parent is told
--   stops_run     the reason for which the run must be stopped. The caller does so after the commit (a gate is never
--                 upgraded); if it dies before that, recovery does
--   charge        what its owner pays, in 15_credits.sql
--
-- p_landed  false: its run was stopped, so only its slot is freed, and what it used is paid
-- wakes     what it waits for has come already: it is QUEUED again
-- also      {others: node executions of other runs (or of this one) that became QUEUED, as [run, node, index];
--           total_cost: what the tree of runs has cost by now, where this cost something;
--           short: its owner could not pay all of it, and the run must be stopped}
CREATE OR REPLACE FUNCTION agentflow_consequences(
    p_run uuid, p_node int, p_idx int, p_more json, p_landed boolean,
    OUT wakes boolean, OUT also json
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_stats jsonb := p_more -> 'stats';
    v_wait record;
    v_freed json;
    v_woken json;
    v_cost bigint;
    v_paid bigint;
    v_missing bigint;
    v_had bigint;
BEGIN
    IF p_more -> 'frees_slot' IS NOT NULL THEN
        SELECT json_agg(json_build_array(f.run_id, f.node, f.idx)) INTO v_freed FROM agentflow_free_slot(p_run, p_node, p_idx) f;
    END IF;
    IF NOT p_landed THEN
        IF p_more -> 'charge' IS NOT NULL THEN
            PERFORM agentflow_charge_stopped(p_run, p_node, p_idx, p_more -> 'charge');
        END IF;
        also := json_build_object('others', v_freed);
        RETURN;
    END IF;
    IF p_more -> 'stops_run' IS NOT NULL THEN
        UPDATE runs r SET stop_due = p_more ->> 'stops_run' WHERE r.id = p_run AND r.stop_due IS NULL;
        IF p_more ->> 'stops_run' = 'insufficient_balance' THEN
            PERFORM agentflow_note_shortfall(p_run, e.error) FROM node_executions e
            WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
        END IF;
    END IF;
    IF p_more -> 'withholds_inputs' IS NOT NULL THEN
        -- Wherever in the tree of runs the same value stands: it may have come through other nodes, and from a parent.
        UPDATE outputs o SET value = agentflow_withheld()
        WHERE o.run_id IN (SELECT t.id FROM runs t JOIN runs r ON r.root_id = t.root_id WHERE r.id = p_run) AND o.value IN (
            SELECT s.value FROM deliveries d JOIN outputs s ON s.run_id = d.run_id AND s.node = d.source_node
                AND s.idx = d.source_idx AND s.ordinal = d.source_ordinal AND s.part IN (0, d.source_part)
            WHERE d.run_id = p_run AND d.node = p_node AND d.idx = p_idx);
        -- What it got may have been the error of another node.
        UPDATE node_executions e SET error = agentflow_withheld()::json #>> '{}'
        FROM outputs o JOIN runs t ON t.id = o.run_id JOIN runs r ON r.root_id = t.root_id
        WHERE r.id = p_run AND o.pin = 'error' AND o.value = agentflow_withheld()
          AND e.run_id = o.run_id AND e.node = o.node AND e.idx = o.idx AND e.error IS NOT NULL;
    END IF;
    IF p_more -> 'wait' IS NOT NULL THEN
        SELECT w.* INTO v_wait FROM json_to_record(p_more -> 'wait') AS w(
            kind text, key text, seconds float8, state text, name text, data text, editable boolean);
        wakes := agentflow_wait(p_run, p_node, p_idx, v_wait.kind, v_wait.key, v_wait.seconds, v_wait.state, v_wait.name,
                                v_wait.data, v_wait.editable);
    END IF;
    IF p_more -> 'wakes_parent' IS NOT NULL THEN
        SELECT json_agg(json_build_array(w.run_id, w.node, w.idx)) INTO v_woken FROM agentflow_wake_parent(p_run) w;
    END IF;
    IF (v_stats ->> 'cost')::numeric > 0 THEN
        INSERT INTO run_costs AS c (root_id, cost) SELECT r.root_id, (v_stats ->> 'cost')::numeric FROM runs r WHERE r.id = p_run
        ON CONFLICT (root_id) DO UPDATE SET cost = c.cost + excluded.cost RETURNING c.cost INTO v_cost;
    END IF;
    IF p_more -> 'charge' IS NOT NULL THEN  -- the last that waits for a lock: for the balance of the owner
        SELECT c.paid, c.missing, c.had INTO v_paid, v_missing, v_had
        FROM agentflow_charge(p_run, p_node, p_idx, p_more -> 'charge', true) c;
        IF v_paid > 0 THEN
            v_stats := coalesce(v_stats, '{}') || jsonb_build_object('charged', v_paid);
        END IF;
        IF v_missing > 0 THEN
            PERFORM agentflow_note_unpaid(p_run, p_more -> 'charge', v_paid + v_missing, v_had);
        END IF;
    END IF;
    IF v_stats IS NOT NULL THEN
        UPDATE node_executions e
        SET stats = CASE WHEN e.stats IS NULL THEN v_stats ELSE agentflow_add_stats(e.stats, v_stats) END
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
    END IF;
    also := json_build_object('others', coalesce(v_freed::jsonb, '[]') || coalesce(v_woken::jsonb, '[]'), 'total_cost', v_cost,
                              'short', v_missing > 0);
END $$;

CREATE OR REPLACE FUNCTION agentflow_wake_due(p_run uuid, p_node int, p_idx int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v record;
BEGIN
    PERFORM agentflow_gate_shared(p_run);
    SELECT w.kind, w.key, w.until INTO v FROM waits w
    WHERE w.run_id = p_run AND w.node = p_node AND w.idx = p_idx AND w.open;
    IF NOT FOUND OR v.until IS NULL OR v.until > agentflow_now() THEN
        UPDATE node_executions e SET check_at = coalesce(v.until, 'infinity')
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'WAITING';
        RETURN false;
    END IF;
    IF NOT agentflow_wake(p_run, p_node, p_idx, NULL, v.kind <> 'timer') THEN
        RETURN false;
    END IF;
    IF v.kind = 'review' THEN
        UPDATE reviews o SET status = 'EXPIRED', decided_at = agentflow_now() WHERE o.id = v.key::uuid AND o.status = 'WAITING';
    END IF;
    RETURN true;
END $$;

-- `nudged` tells a parent that is not waiting just now, so that it does not start to wait over this.
CREATE OR REPLACE FUNCTION agentflow_wake_parent(
    p_run uuid, OUT run_id uuid, OUT node int, OUT idx int
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
    v_status text;
BEGIN
    SELECT r.parent_run_id AS run, r.parent_node AS node, r.parent_idx AS idx INTO v FROM runs r WHERE r.id = p_run;
    IF v.run IS NULL THEN
        RETURN;
    END IF;
    PERFORM agentflow_gate_shared(v.run);
    SELECT e.status INTO v_status FROM node_executions e
    WHERE e.run_id = v.run AND e.node = v.node AND e.idx = v.idx FOR NO KEY UPDATE;
    IF v_status = 'WAITING' AND EXISTS (SELECT FROM waits w WHERE w.run_id = v.run AND w.node = v.node AND w.idx = v.idx
                                        AND w.kind = 'child') THEN
        IF agentflow_wake(v.run, v.node, v.idx, NULL, false) THEN
            run_id := v.run; node := v.node; idx := v.idx;
            RETURN NEXT;
        END IF;
    ELSIF v_status IN ('QUEUED', 'RUNNING') THEN
        INSERT INTO waits (run_id, node, idx, kind, key, open, nudged) VALUES (v.run, v.node, v.idx, 'child', '', false, true)
        ON CONFLICT (run_id, node, idx) DO UPDATE SET nudged = true;
    END IF;
END $$;

-- verdict: taken    a node execution that waited for it gets it, and is QUEUED: q_*
--          kept     none waits; the next that does gets it
--          full     too many are kept already
--          ended    the run has ended or is being stopped
--          unknown  there is no such run
CREATE OR REPLACE FUNCTION agentflow_signal(
    p_run uuid, p_name text, p_payload text, p_most int, OUT verdict text, OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_run record;
    v record;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    SELECT r.ended_at, r.stop_as INTO v_run FROM runs r WHERE r.id = p_run;
    IF NOT FOUND THEN
        verdict := 'unknown';
        RETURN;
    ELSIF v_run.ended_at IS NOT NULL OR v_run.stop_as IS NOT NULL THEN
        verdict := 'ended';
        RETURN;
    END IF;
    SELECT w.node, w.idx INTO v FROM waits w
    WHERE w.run_id = p_run AND w.kind = 'event' AND w.key = p_name AND w.open ORDER BY w.since, w.node, w.idx LIMIT 1;
    IF FOUND AND agentflow_wake(p_run, v.node, v.idx, p_payload, false) THEN
        verdict := 'taken';
        q_node := ARRAY[v.node];
        q_idx := ARRAY[v.idx];
        INSERT INTO signals (run_id, name, payload, taken_by_node, taken_by_idx) VALUES (p_run, p_name, p_payload, v.node, v.idx);
    ELSIF (SELECT count(*) FROM (SELECT FROM signals s WHERE s.run_id = p_run AND s.taken_by_node IS NULL LIMIT p_most) k) >= p_most THEN
        verdict := 'full';
    ELSE
        verdict := 'kept';
        INSERT INTO signals (run_id, name, payload) VALUES (p_run, p_name, p_payload);
    END IF;
END $$;

-- p_data: the edited data, or null. p_rest: approves the others of this node in this run, too, now and later.
-- verdict: decided, already (someone has decided before, or its run was stopped), unknown
CREATE OR REPLACE FUNCTION agentflow_review(
    p_review uuid, p_owner uuid, p_approve boolean, p_data text, p_message text, p_rest boolean,
    OUT verdict text, OUT run_id uuid, OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
    v_node int;
BEGIN
    SELECT o.run_id, o.node INTO run_id, v_node FROM reviews o WHERE o.id = p_review AND o.owner_id = p_owner;
    IF NOT FOUND THEN
        verdict := 'unknown';
        RETURN;
    END IF;
    PERFORM agentflow_gate_alone(run_id);
    verdict := 'already';
    IF NOT EXISTS (SELECT FROM reviews o WHERE o.id = p_review AND o.status = 'WAITING') THEN
        RETURN;
    END IF;
    IF p_approve AND p_rest THEN
        INSERT INTO review_policies (run_id, node) VALUES (run_id, v_node) ON CONFLICT DO NOTHING;
    END IF;
    FOR v IN
        SELECT o.id, o.node, o.idx, o.data FROM reviews o
        WHERE o.run_id = agentflow_review.run_id AND o.node = v_node AND o.status = 'WAITING'
          AND (o.id = p_review OR (p_approve AND p_rest)) ORDER BY o.idx
    LOOP
        IF agentflow_wake(run_id, v.node, v.idx, agentflow_review_result(
            p_approve, CASE WHEN v.id = p_review THEN coalesce(p_data, v.data) ELSE v.data END, p_message), false) THEN
            UPDATE reviews o SET status = CASE WHEN p_approve THEN 'APPROVED' ELSE 'REJECTED' END, message = p_message,
                decided = CASE WHEN v.id = p_review THEN p_data END, decided_at = agentflow_now() WHERE o.id = v.id;
            verdict := 'decided';
            q_node := q_node || v.node;
            q_idx := q_idx || v.idx;
        END IF;
    END LOOP;
END $$;
