-- Decides, when nothing of a run is busy, whether it rests, continues or ends. Two round trips, each under the gate held
-- alone; between them engine/verdict.py judges a run that is over. Only what `finish` looks for can continue it meanwhile.
--
-- agentflow_rest     busy      something of it is worked on (or a child run of a stopped one), or outputs whose turn has come
--                              are being delivered; or it has ended: nothing to do
--                    released  what its window held is unheld now: q_*
--                    resting   something of it waits for the outside, for a slot, for a place, or for resume
--                    over      nothing of it is open. With it: whether it was stopped, and
--                              counts: [[node, status, how many, how many of them were ever claimed], ...]
-- agentflow_over     whether nothing of it is open, and it was not stopped; the gate stays with the caller
-- agentflow_finish   record the end. done: false if it has ended, was stopped since, or something of it is open again
--                    (p_made: or it has more node executions by now; null: it cannot). x_*: who waits for this run

CREATE OR REPLACE FUNCTION agentflow_rest(
    p_run uuid, p_window int, OUT verdict text, OUT q_node int[], OUT q_idx int[],
    OUT stop_as text, OUT stop_reason text, OUT counts text, OUT reported text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_run record;
    v_now timestamptz;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    v_now := agentflow_now();
    verdict := 'busy';
    SELECT r.status, r.stop_as, r.stop_reason INTO v_run FROM runs r WHERE r.id = p_run AND r.ended_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open AND e.hold IS NULL) THEN
        RETURN;
    END IF;
    SELECT o.q_node, o.q_idx INTO q_node, q_idx FROM agentflow_unhold(p_run, 'window', p_window) o;
    IF q_node IS NOT NULL THEN
        verdict := 'released';
    ELSIF agentflow_is_releasing(p_run) THEN
        RETURN;
    ELSIF EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open
                  AND e.hold IN ('limit', 'rate', 'admission', 'paused')) THEN
        verdict := 'resting';
    ELSIF EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open AND e.hold = 'waiting') THEN
        verdict := 'resting';
        UPDATE runs r SET status = 'WAITING' WHERE r.id = p_run AND r.status = 'RUNNING';
        IF FOUND THEN
            INSERT INTO events (run_id, kind, status) VALUES (p_run, 'run', 'WAITING');
        END IF;
    ELSIF NOT EXISTS (SELECT FROM runs c WHERE c.parent_run_id = p_run AND c.ended_at IS NULL) THEN
        verdict := 'over';
        stop_as := v_run.stop_as;
        stop_reason := v_run.stop_reason;
        SELECT coalesce(json_agg(json_build_array(c.node, c.status, c.n, c.started) ORDER BY c.node, c.status), '[]')::text
        INTO counts
        FROM (SELECT e.node, e.status, count(*) AS n, count(*) FILTER (WHERE e.attempt > 0) AS started
              FROM node_executions e
              WHERE e.run_id = p_run AND (e.status <> 'INCOMPLETE' OR e.have > 0)  -- without any value it is no leftover
              GROUP BY e.node, e.status) c;
        reported := agentflow_reported(p_run)::text;
    END IF;
END $$;

-- Whether outputs wait only for whoever releases them (agentflow_release; recovery, if that one died).
-- Routing is in order: of each node only the first that waits for its turn has to be looked at.
CREATE OR REPLACE FUNCTION agentflow_is_releasing(p_run uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    WITH RECURSIVE first AS (
        (SELECT e.node, e.idx FROM node_executions e WHERE e.run_id = p_run AND e.hold = 'turn' ORDER BY e.node, e.idx LIMIT 1)
        UNION ALL
        SELECT n.node, n.idx FROM first f CROSS JOIN LATERAL (
            SELECT e.node, e.idx FROM node_executions e WHERE e.run_id = p_run AND e.hold = 'turn' AND e.node > f.node
            ORDER BY e.node, e.idx LIMIT 1) n
    )
    SELECT EXISTS (
        SELECT FROM first f JOIN node_executions p ON p.run_id = p_run AND p.node = f.node AND p.idx = f.idx - 1
        WHERE p.open::int = 0)
$$;

CREATE OR REPLACE FUNCTION agentflow_over(p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    RETURN EXISTS (SELECT FROM runs r WHERE r.id = p_run AND r.ended_at IS NULL AND r.stop_as IS NULL)
       AND NOT EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open);
END $$;

-- Unholds, in the order of the graph, up to p_limit of the node executions that are held for this reason.
CREATE OR REPLACE FUNCTION agentflow_unhold(
    p_run uuid, p_hold text, p_limit int, OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := agentflow_now();
BEGIN
    WITH held AS (
        SELECT e.node, e.idx FROM node_executions e
        WHERE e.run_id = p_run AND e.hold = p_hold AND e.status = 'QUEUED'
        ORDER BY e.node, e.idx LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    ), unheld AS (
        UPDATE node_executions e SET hold = NULL, check_at = greatest(v_now + agentflow_publish_grace(), e.due_at), republished = 0,
            queued_at = v_now
        FROM held h WHERE e.run_id = p_run AND e.node = h.node AND e.idx = h.idx
        RETURNING e.node, e.idx
    )
    SELECT array_agg(l.node ORDER BY l.node, l.idx), array_agg(l.idx ORDER BY l.node, l.idx) INTO q_node, q_idx FROM unheld l;
END $$;

CREATE OR REPLACE FUNCTION agentflow_finish(
    p_run uuid, p_stop_as text, p_made bigint, p_status text, p_reason text, p_error text, p_stats jsonb,
    OUT done boolean, OUT x_run uuid, OUT x_node int, OUT x_idx int
) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz;
    v_run record;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    v_now := agentflow_now();
    done := false;
    IF EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open)
       OR (p_made IS NOT NULL AND p_made <> (SELECT count(*) FROM node_executions e WHERE e.run_id = p_run
                                             AND (e.status <> 'INCOMPLETE' OR e.have > 0))) THEN
        RETURN;
    END IF;
    UPDATE runs r SET status = p_status, reason = p_reason, error = p_error, ended_at = v_now,
        stats = p_stats || jsonb_build_object(
            'duration', round(coalesce(extract(epoch FROM v_now - r.started_at), 0)::numeric, 6))
    WHERE r.id = p_run AND r.ended_at IS NULL AND r.stop_as IS NOT DISTINCT FROM p_stop_as
    RETURNING r.owner_id, r.parent_run_id IS NULL AS whole, r.labels ->> 'notify' AS notify INTO v_run;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    done := true;
    -- A notification of the end, where somebody is to be told: else this costs one look at what the owner prefers.
    IF v_run.whole AND (p_status = 'FAILED' OR v_run.notify IN ('finished', 'at_once') OR EXISTS (
            SELECT FROM notification_settings s WHERE s.owner_id = v_run.owner_id AND s.wants_finished)) THEN
        PERFORM agentflow_note_end(p_run);
    END IF;
    INSERT INTO events (run_id, kind, status, reason) VALUES (p_run, 'run', p_status, p_reason);
    SELECT w.run_id, w.node, w.idx INTO x_run, x_node, x_idx FROM agentflow_wake_parent(p_run) w;
END $$;

-- The sums of what the node executions of a run and its child runs reported: {count: total}.
CREATE OR REPLACE FUNCTION agentflow_reported(p_run uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_object_agg(t.key, t.total), '{}') FROM (
        SELECT b.key, sum(b.value::numeric) AS total FROM (
            SELECT e.stats FROM node_executions e WHERE e.run_id = p_run AND e.stats IS NOT NULL
            UNION ALL
            SELECT c.stats - '{duration,leftovers,leftover_count}'::text[] || jsonb_build_object('child_runs', 1 + coalesce((c.stats ->> 'child_runs')::int, 0))
            FROM runs c WHERE c.parent_run_id = p_run AND c.stats IS NOT NULL
        ) s, jsonb_each_text(s.stats) b
        WHERE jsonb_typeof(s.stats -> b.key) = 'number' GROUP BY b.key) t
$$;
