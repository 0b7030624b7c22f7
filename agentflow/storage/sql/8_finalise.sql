-- The end of a run, in two steps with the verdict between them (engine/verdict.py); one transaction, the gate held alone.
--
-- agentflow_census   is the run to be ended, and what has it come to? No row: it has ended, or something of it is open.
--                    counts: [[node, status, how many, how many of them were ever claimed], ...]
-- agentflow_finish   write the end down

CREATE OR REPLACE FUNCTION agentflow_census(
    p_run uuid, OUT graph_id uuid, OUT graph_version int, OUT masks text, OUT stop_as text, OUT stop_reason text, OUT counts json
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    SELECT r.graph_id, r.graph_version, r.masks, r.stop_as, r.stop_reason
    INTO graph_id, graph_version, masks, stop_as, stop_reason
    FROM runs r WHERE r.id = p_run AND r.ended_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open) THEN
        RETURN;
    END IF;
    SELECT coalesce(json_agg(json_build_array(c.node, c.status, c.n, c.started) ORDER BY c.node, c.status), '[]') INTO counts
    FROM (SELECT e.node, e.status, count(*) AS n, count(*) FILTER (WHERE e.attempt > 0) AS started
          FROM node_executions e WHERE e.run_id = p_run GROUP BY e.node, e.status) c;
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION agentflow_finish(
    p_run uuid, p_status text, p_reason text, p_error text, p_stats jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
BEGIN
    UPDATE runs r SET status = p_status, reason = p_reason, error = p_error, ended_at = v_now,
        stats = p_stats || jsonb_build_object(
            'duration', round(coalesce(extract(epoch FROM v_now - r.started_at), 0)::numeric, 6))
    WHERE r.id = p_run;
    INSERT INTO events (run_id, kind, status, reason) VALUES (p_run, 'run', p_status, p_reason);
END $$;
