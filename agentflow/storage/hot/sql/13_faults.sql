-- Counts the failures of the engine itself, and gives up after so many: nothing is tried for ever.
--
-- agentflow_fault          a node execution could not be claimed, loaded or settled: it is tried again. Beyond p_bearable
--                          times the caller gets it with a lease (verdict `poisoned`), and settles it FAILED
-- agentflow_fault_of_run   a run as a whole could not be continued: ended, released, its plan read. Beyond p_bearable times,
--                          or if it was stopped anyway, it is given up
-- agentflow_close_stopped  ends a QUEUED node execution of a stopped run without reading its plan
--
-- None of them needs a lease, a plan or a value of the run, so they work whatever is wrong with those. A fault counts as a
-- lost lease (`losses`): either way an attempt was made and nothing came of it.

-- p_holder  the process that failed. p_died: it is gone, and another reports that. Then what it holds or held last is left
--           alone: returning its lease counts that, or it did so itself before it died
CREATE OR REPLACE FUNCTION agentflow_fault(
    p_run uuid, p_node int, p_idx int, p_holder text, p_died boolean, p_bearable int, p_token uuid, p_lease float8,
    OUT verdict text, OUT emitted int, OUT attempt int, OUT losses int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
    v_now timestamptz;
BEGIN
    PERFORM agentflow_gate_shared(p_run);
    v_now := agentflow_now();
    verdict := 'gone';
    SELECT e.status, e.holder, e.losses, e.emitted, e.lease_until IS NULL AND e.attempt > 0 AS goes_on INTO v
    FROM node_executions e JOIN runs r ON r.id = e.run_id
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND r.stop_as IS NULL AND r.ended_at IS NULL
      AND ((e.status = 'QUEUED' AND (e.hold IS NULL OR e.hold = 'rate') AND coalesce(e.due_at <= v_now, true)
            AND NOT (p_died AND e.holder IS NOT DISTINCT FROM p_holder))
           OR (e.status = 'RUNNING' AND e.holder = p_holder AND NOT p_died)
           OR (e.status = 'RUNNING' AND e.lease_until <= v_now))
    FOR NO KEY UPDATE OF e;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    emitted := v.emitted;
    losses := v.losses + 1;
    IF v.losses < p_bearable THEN
        verdict := 'queued';
        UPDATE node_executions e SET status = 'QUEUED', token = NULL, holder = p_holder, losses = e.losses + 1, republished = 0,
            queued_at = v_now, check_at = v_now + agentflow_publish_grace()
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx RETURNING e.attempt INTO attempt;
    ELSE
        verdict := 'poisoned';
        UPDATE node_executions e SET status = 'RUNNING', hold = NULL, token = p_token, holder = p_holder, losses = e.losses + 1,
            attempt = e.attempt + CASE WHEN v.status = 'RUNNING' OR v.goes_on THEN 0 ELSE 1 END,
            started_at = coalesce(e.started_at, v_now),
            lease_until = v_now + make_interval(secs => p_lease), check_at = v_now + make_interval(secs => p_lease)
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx RETURNING e.attempt INTO attempt;
    END IF;
    INSERT INTO events (run_id, kind, status, reason, node, idx, attempt)
    VALUES (p_run, 'lost', CASE verdict WHEN 'queued' THEN 'QUEUED' ELSE 'RUNNING' END, 'system', p_node, p_idx, attempt);
END $$;

-- It ends as its stop says, else FAILED. Whoever still works on something of it finds the row closed.
-- verdict: gone, counted, given_up. x_*: who waits for this run
CREATE OR REPLACE FUNCTION agentflow_fault_of_run(
    p_run uuid, p_bearable int, p_error text, OUT verdict text, OUT losses int, OUT x_run uuid, OUT x_node int, OUT x_idx int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
    v_now timestamptz;
    v_status text;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    v_now := agentflow_now();
    UPDATE runs r SET losses = r.losses + 1 WHERE r.id = p_run AND r.ended_at IS NULL
    RETURNING r.losses, r.stop_as, r.stop_reason, r.started_at, r.parent_run_id INTO v;
    IF NOT FOUND THEN
        verdict := 'gone';
        RETURN;
    END IF;
    losses := v.losses;
    IF v.losses <= p_bearable AND v.stop_as IS NULL THEN
        verdict := 'counted';
        RETURN;
    END IF;
    verdict := 'given_up';
    v_status := coalesce(v.stop_as, 'FAILED');
    UPDATE node_executions e SET status = 'CANCELLED', open = false, hold = NULL, ended_at = v_now
    WHERE e.run_id = p_run AND e.status IN ('INCOMPLETE', 'QUEUED', 'RUNNING', 'WAITING');
    UPDATE node_executions e SET open = false, hold = 'unrouted' WHERE e.run_id = p_run AND e.open;
    UPDATE reviews o SET status = 'CANCELLED', decided_at = v_now WHERE o.run_id = p_run AND o.status = 'WAITING';
    UPDATE runs r SET status = v_status, reason = coalesce(v.stop_reason, 'engine'), ended_at = v_now,
        error = CASE WHEN v_status = 'FAILED' THEN p_error END,
        stats = (SELECT jsonb_build_object(
            'node_count', count(*) FILTER (WHERE e.attempt > 0),
            'node_error_count', count(*) FILTER (WHERE e.status = 'FAILED'),
            'node_cancelled_count', count(*) FILTER (WHERE e.status = 'CANCELLED'),
            'leftovers', '[]'::jsonb, 'leftover_count', 0, 'cost', 0,
            'duration', round(coalesce(extract(epoch FROM v_now - v.started_at), 0)::numeric, 6))
            FROM node_executions e WHERE e.run_id = p_run) || agentflow_reported(p_run)
    WHERE r.id = p_run;
    IF v_status = 'FAILED' AND v.parent_run_id IS NULL THEN
        PERFORM agentflow_note_end(p_run);
    END IF;
    IF v.stop_as IS NULL THEN
        PERFORM agentflow_note_admins('system_alert', format('gave-up:%s:%s', p_run, v.losses), jsonb_build_object(
            'what', 'the engine gave up a run', 'detail', left(p_error, 500), 'run', p_run));
    END IF;
    INSERT INTO events (run_id, kind, status, reason) VALUES (p_run, 'run', v_status, coalesce(v.stop_reason, 'engine'));
    SELECT w.run_id, w.node, w.idx INTO x_run, x_node, x_idx FROM agentflow_wake_parent(p_run) w;
END $$;

CREATE OR REPLACE FUNCTION agentflow_close_stopped(p_run uuid, p_node int, p_idx int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_attempt int;
BEGIN
    PERFORM agentflow_gate_shared(p_run);
    -- As in agentflow_claim: what an older version put back after the stop.
    UPDATE node_executions e SET status = 'CANCELLED', open = false, hold = NULL, ended_at = agentflow_now()
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED'
      AND EXISTS (SELECT FROM runs r WHERE r.id = p_run AND r.stop_as IS NOT NULL)
    RETURNING e.attempt INTO v_attempt;
    IF FOUND THEN
        INSERT INTO events (run_id, kind, status, node, idx, attempt)
        VALUES (p_run, 'settled', 'CANCELLED', p_node, p_idx, v_attempt);
    END IF;
END $$;
