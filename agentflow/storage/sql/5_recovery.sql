-- What recovery does to one node execution, each under its run's gate and right whatever happened since it was seen.
--
-- agentflow_lose    a lease has run out, or its worker says that it is gone: RUNNING → QUEUED, to be run again. After
--                   p_max_losses the caller gets the lease itself (verdict `poisoned`) and settles it FAILED.
-- agentflow_renew   the leases of what a worker process is executing are extended; what comes back must stop

CREATE OR REPLACE FUNCTION agentflow_lose(
    p_run uuid, p_node int, p_idx int, p_token uuid, p_max_losses int, p_new_token uuid, p_holder text, p_lease float8,
    OUT verdict text, OUT emitted int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_losses int;
    v_now timestamptz;
BEGIN
    PERFORM agentflow_gate_shared(p_run);
    v_now := agentflow_now();
    SELECT e.losses, e.emitted INTO v_losses, emitted FROM node_executions e
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'RUNNING' AND e.token = p_token
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        verdict := 'gone';
        RETURN;
    END IF;
    IF v_losses < p_max_losses THEN
        UPDATE node_executions e SET status = 'QUEUED', token = NULL, losses = e.losses + 1, queued_at = v_now,
            check_at = v_now + agentflow_ring_grace()
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
        verdict := 'queued';
    ELSE
        UPDATE node_executions e SET token = p_new_token, holder = p_holder, losses = e.losses + 1,
            lease_until = v_now + make_interval(secs => p_lease), check_at = v_now + make_interval(secs => p_lease)
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
        verdict := 'poisoned';
    END IF;
    INSERT INTO events (run_id, kind, status, reason, node, idx)
    VALUES (p_run, 'lost', CASE verdict WHEN 'queued' THEN 'QUEUED' ELSE 'RUNNING' END, 'worker_lost', p_node, p_idx);
END $$;

-- Rows are locked in key order and skipped when a settle holds them: that settle extends or ends them itself.
CREATE OR REPLACE FUNCTION agentflow_renew(
    p_holder text, a_run uuid[], a_node int[], a_idx int[], p_lease float8,
    OUT run_id uuid, OUT node int, OUT idx int, OUT stop boolean
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN QUERY
    WITH mine AS (
        SELECT e.run_id, e.node, e.idx FROM node_executions e
        JOIN unnest(a_run, a_node, a_idx) AS a(run_id, node, idx) USING (run_id, node, idx)
        WHERE e.status = 'RUNNING' AND e.holder = p_holder
        ORDER BY e.run_id, e.node, e.idx FOR NO KEY UPDATE OF e SKIP LOCKED
    ), renewed AS (
        UPDATE node_executions e SET lease_until = agentflow_now() + make_interval(secs => p_lease)
        FROM mine m WHERE e.run_id = m.run_id AND e.node = m.node AND e.idx = m.idx
        RETURNING e.run_id, e.node, e.idx
    )
    SELECT w.run_id, w.node, w.idx, (SELECT r.stop_as IS NOT NULL FROM runs r WHERE r.id = w.run_id) FROM renewed w;
END $$;
