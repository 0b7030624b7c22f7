-- A worker takes a QUEUED node execution: QUEUED → RUNNING, with a lease, and gets its inputs. One round trip.
--
-- The commit is asynchronous: a claim that is lost in a server crash leaves the row QUEUED, and is made again.
--
-- verdict: claimed   the node execution is this worker's, until lease_until
--          gone      it is not QUEUED any more (a duplicate message), not due yet, or held
--          stopped   its run was stopped; it was closed as CANCELLED. `last`: nothing of the run is open now
--          paused    its run is paused, or not admitted; it is held, and resume (or admission) publishes it again
-- inputs:  {pin: value} as JSON text: what was delivered to it
-- wait:    what it waited for and found, if it has waited: {kind, key, state, result, timed_out} as JSON text

-- Whether nothing of the run is busy.
CREATE OR REPLACE FUNCTION agentflow_at_rest(p_run uuid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT NOT EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_run AND e.open AND e.hold IS NULL)
$$;

CREATE OR REPLACE FUNCTION agentflow_claim(
    p_run uuid, p_node int, p_idx int, p_pins text[], p_token uuid, p_holder text, p_lease float8,
    OUT verdict text, OUT attempt int, OUT emitted int, OUT failures int, OUT losses int, OUT inputs text, OUT last boolean,
    OUT resumed_from int, OUT wait text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_run_status text;
    v_stop_as text;
    v_paused timestamptz;
    v_admitted timestamptz;
    v_now timestamptz;
    v_waited int;
    v_gate boolean;
BEGIN
    SET LOCAL synchronous_commit = off;
    v_gate := agentflow_gate_shared(p_run);
    SELECT r.status, r.stop_as, r.paused_at, r.admitted_at INTO v_run_status, v_stop_as, v_paused, v_admitted
    FROM runs r WHERE r.id = p_run;
    IF NOT FOUND OR v_run_status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN
        verdict := 'gone';
        RETURN;
    END IF;
    IF v_stop_as IS NOT NULL THEN
        -- A stop closes what is QUEUED, and so does who returns a lease after it. This is what an older version put back.
        UPDATE node_executions e SET status = 'CANCELLED', open = false, hold = NULL, ended_at = agentflow_now()
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED'
        RETURNING e.attempt INTO attempt;
        IF FOUND THEN
            INSERT INTO events (run_id, kind, status, node, idx, attempt)
            VALUES (p_run, 'settled', 'CANCELLED', p_node, p_idx, attempt);
        END IF;
        verdict := 'stopped';
        last := agentflow_at_rest(p_run);
        RETURN;
    END IF;
    IF v_paused IS NOT NULL OR v_admitted IS NULL THEN
        UPDATE node_executions e SET hold = CASE WHEN v_admitted IS NULL THEN 'admission' ELSE 'paused' END, check_at = 'infinity'
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED'
          AND (e.hold IS NULL OR e.hold = 'rate');  -- its place in the rate has come, and passes
        verdict := 'paused';
        last := agentflow_at_rest(p_run);
        RETURN;
    END IF;

    v_now := agentflow_now();
    UPDATE node_executions e
    SET attempt = e.attempt + CASE WHEN e.lease_until IS NULL AND e.attempt > 0 THEN 0 ELSE 1 END,  -- 0: it goes on after a wait
        status = 'RUNNING', token = p_token, holder = p_holder,
        lease_until = v_now + make_interval(secs => p_lease), started_at = coalesce(e.started_at, v_now),
        -- Unaltered, as a rule, and the update stays a heap-only one; but what was put off must be looked at in time.
        check_at = least(e.check_at, v_now + make_interval(secs => p_lease))
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED' AND e.hold IS NULL
      AND (e.due_at IS NULL OR e.due_at <= v_now)
    RETURNING e.attempt, e.emitted, e.failures, e.losses, e.resumed_from, e.waited
    INTO attempt, emitted, failures, losses, resumed_from, v_waited;
    IF NOT FOUND THEN
        verdict := 'gone';
        RETURN;
    END IF;
    verdict := 'claimed';
    IF v_waited > 0 THEN
        UPDATE waits w SET nudged = false WHERE w.run_id = p_run AND w.node = p_node AND w.idx = p_idx
        RETURNING json_build_object('kind', w.kind, 'key', w.key, 'state', w.state::json, 'result', w.result::json,
                                    'timed_out', w.timed_out)::text INTO wait;
    END IF;
    IF v_run_status <> 'RUNNING' THEN  -- the one update of the run's row that a node execution makes
        UPDATE runs r SET status = 'RUNNING', started_at = coalesce(r.started_at, v_now)
        WHERE r.id = p_run AND r.status IN ('QUEUED', 'WAITING');
        IF FOUND THEN
            INSERT INTO events (run_id, kind, status) VALUES (p_run, 'run', 'RUNNING');
        END IF;
    END IF;
    INSERT INTO events (run_id, at, kind, status, node, idx, attempt)
    VALUES (p_run, v_now, 'claimed', 'RUNNING', p_node, p_idx, attempt);
    IF p_pins <> '{}' THEN
        SELECT '{' || string_agg(to_json(d.pin)::text || ':' || o.value, ',') || '}' INTO inputs
        FROM deliveries d
        JOIN outputs o ON o.run_id = d.run_id AND o.node = d.source_node AND o.idx = d.source_idx
                      AND o.ordinal = d.source_ordinal AND o.part = d.source_part
        WHERE d.run_id = p_run AND d.node = p_node AND d.pin = ANY (p_pins) AND d.idx = p_idx;
    END IF;
END $$;
