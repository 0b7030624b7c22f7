-- Stops a run: its owner cancels it, or a deadline, a limit or `on_node_failure: stop` does. The first stop wins.
--
-- What has not started ends at once. What runs is interrupted by its worker (agentflow_renew says `stop`); whatever it
-- settles later is recorded as CANCELLED only.
--
-- verdict: stopped   the flag is set now
--          already   it was stopped before; nothing changed
--          ended     it has ended
--          unknown   there is no such run
-- running: node executions that a worker still holds; at 0 the caller enqueues the finaliser

CREATE OR REPLACE FUNCTION agentflow_stop(
    p_run uuid, p_stop_as text, p_reason text, OUT verdict text, OUT running int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_status text;
    v_stop_as text;
    v_now timestamptz;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    v_now := agentflow_now();
    SELECT r.status, r.stop_as INTO v_status, v_stop_as FROM runs r WHERE r.id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        verdict := 'unknown';
        RETURN;
    ELSIF v_status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN
        verdict := 'ended';
        RETURN;
    ELSIF v_stop_as IS NOT NULL THEN
        verdict := 'already';
    ELSE
        verdict := 'stopped';
        PERFORM agentflow_leave_rates(p_run);
        -- Nothing waits any more: until all of it is closed, its child runs too, the run reads RUNNING.
        UPDATE runs r SET stop_as = p_stop_as, stop_reason = p_reason, cancel_requested_at = v_now,
            status = CASE r.status WHEN 'WAITING' THEN 'RUNNING' ELSE r.status END
        WHERE r.id = p_run;
        IF v_status = 'WAITING' THEN
            INSERT INTO events (run_id, kind, status) VALUES (p_run, 'run', 'RUNNING');
        END IF;
        UPDATE node_executions e SET status = 'CANCELLED', open = false, hold = NULL, ended_at = v_now
        WHERE e.run_id = p_run AND e.status IN ('INCOMPLETE', 'QUEUED', 'WAITING');
        -- Outputs that waited for their turn are no longer delivered, unless the run is retried.
        UPDATE node_executions e SET open = false, hold = 'unrouted'
        WHERE e.run_id = p_run AND e.open AND e.status IN ('COMPLETED', 'FAILED', 'CANCELLED');
        UPDATE reviews v SET status = 'CANCELLED', decided_at = v_now WHERE v.run_id = p_run AND v.status = 'WAITING';
        INSERT INTO events (run_id, kind, status, reason) VALUES (p_run, 'stopping', p_stop_as, p_reason);
    END IF;
    SELECT count(*) INTO running FROM node_executions e WHERE e.run_id = p_run AND e.open;
END $$;
