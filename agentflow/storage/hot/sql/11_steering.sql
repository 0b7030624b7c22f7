-- Pauses, resumes and retries a run, each under its gate held alone. (Stopping: 07_stop.sql.)
--
-- agentflow_pause        lets nothing new start: a claim holds it instead (03_claim.sql); what has a place in a rate leaves it
-- agentflow_resume       unholds what was held if its owner has a place for the run; else the run queues like a submitted one
-- agentflow_retry        opens an ended run again: failures that nothing handled, and what was cancelled, run again once
--                        the run is admitted (10_limits.sql), like a submitted one
-- agentflow_orphans      lists child runs that nobody waits for any more
-- agentflow_stop_orphan  stops one
-- agentflow_hold_tree    marks a tree of runs as being retried: none of it is an orphan meanwhile

-- Both mark the run until all its child runs have followed (passing_down_at), so that recovery finishes what its process did
-- not live to. p_as_parent: it is a child run that follows its parent. It does not if the parent has changed meanwhile: the
-- parent's state is read under the child's gate, so the last one counts.

-- A run that is paused because its owner is suspended has a mark (runs.suspended): it goes on when the owner is resumed. What
-- its owner says afterwards counts instead, and takes the mark away.

-- Lets nothing of the run start any more. The caller holds its gate alone, and its row.
CREATE OR REPLACE FUNCTION agentflow_hold_back(p_run uuid, p_status text, p_suspended boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM agentflow_leave_rates(p_run);
    UPDATE node_executions e SET hold = 'paused', due_at = agentflow_now(), check_at = 'infinity'
    WHERE e.run_id = p_run AND e.open AND e.hold = 'rate';
    UPDATE runs r SET paused_at = agentflow_now(), suspended = p_suspended WHERE r.id = p_run;
    INSERT INTO events (run_id, kind, status, reason) VALUES (p_run, 'run', p_status, 'paused');
END $$;

-- verdict: paused, already, ended, unknown
CREATE OR REPLACE FUNCTION agentflow_suspend(p_run uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v record;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    SELECT r.status, r.ended_at, r.stop_as, r.paused_at INTO v FROM runs r WHERE r.id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF v.ended_at IS NOT NULL OR v.stop_as IS NOT NULL THEN
        RETURN 'ended';
    ELSIF v.paused_at IS NOT NULL THEN
        RETURN 'already';
    END IF;
    PERFORM agentflow_hold_back(p_run, v.status, true);
    RETURN 'paused';
END $$;

-- verdict: paused, already, ended, unknown
CREATE OR REPLACE FUNCTION agentflow_pause(p_run uuid, p_as_parent boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v record;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    SELECT r.status, r.ended_at, r.stop_as, r.paused_at, r.parent_run_id INTO v FROM runs r WHERE r.id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF v.ended_at IS NOT NULL OR v.stop_as IS NOT NULL THEN
        RETURN 'ended';
    END IF;
    IF NOT p_as_parent THEN
        UPDATE runs r SET passing_down_at = agentflow_now(), suspended = false WHERE r.id = p_run;
    END IF;
    IF v.paused_at IS NOT NULL
       OR (p_as_parent AND NOT EXISTS (SELECT FROM runs p WHERE p.id = v.parent_run_id AND p.paused_at IS NOT NULL)) THEN
        RETURN 'already';
    END IF;
    PERFORM agentflow_hold_back(p_run, v.status, false);
    RETURN 'paused';
END $$;

-- verdict: resumed, already (it is not paused), ended, unknown
CREATE OR REPLACE FUNCTION agentflow_resume(
    p_run uuid, p_as_parent boolean, p_most int, p_window int, OUT verdict text, OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
    v_comes_in boolean;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    SELECT r.status, r.ended_at, r.stop_as, r.paused_at, r.admitted_at, r.owner_id, r.parent_run_id, r.root_id INTO v
    FROM runs r WHERE r.id = p_run FOR NO KEY UPDATE;
    verdict := CASE WHEN NOT FOUND THEN 'unknown' WHEN v.ended_at IS NOT NULL OR v.stop_as IS NOT NULL THEN 'ended'
                    WHEN v.paused_at IS NULL OR (p_as_parent AND EXISTS (
                        SELECT FROM runs p WHERE p.id = v.parent_run_id AND p.paused_at IS NOT NULL)) THEN 'already'
                    ELSE 'resumed' END;
    IF NOT p_as_parent AND verdict IN ('resumed', 'already') THEN
        UPDATE runs r SET passing_down_at = agentflow_now() WHERE r.id = p_run;
    END IF;
    IF verdict <> 'resumed' THEN
        RETURN;
    END IF;
    -- While it was paused, another may have taken its place. What waits for the outside needs none, and child runs are
    -- admitted with their root.
    IF v.admitted_at IS NULL THEN
        v_comes_in := false;
    ELSIF v.parent_run_id IS NOT NULL THEN
        v_comes_in := EXISTS (SELECT FROM runs r WHERE r.id = v.root_id AND r.admitted_at IS NOT NULL);
    ELSIF v.status = 'WAITING' THEN
        v_comes_in := true;
    ELSE
        PERFORM agentflow_places_lock(v.owner_id);
        v_comes_in := agentflow_has_place(v.owner_id, p_most);
    END IF;
    UPDATE runs r SET paused_at = NULL, suspended = false, admitted_at = CASE WHEN v_comes_in THEN r.admitted_at END WHERE r.id = p_run;
    INSERT INTO events (run_id, kind, status, reason) VALUES (p_run, 'run', v.status, 'resumed');
    IF v_comes_in THEN
        SELECT o.q_node, o.q_idx INTO q_node, q_idx FROM agentflow_unhold(p_run, 'paused', p_window) o;
    END IF;
    UPDATE node_executions e SET hold = CASE WHEN v_comes_in THEN 'window' ELSE 'admission' END
    WHERE e.run_id = p_run AND e.hold = 'paused';
END $$;

-- p_unhandled: the nodes whose failures nothing handles. p_deadline: seconds that it has from now; null: no deadline. A
-- child run has no later one than its parent, where that is open.
-- verdict: retried, open (it has not ended), completed, unknown
-- All of a run may have been done when it was stopped, before it could end, or go on with the remainder of a gather: it does
-- so now.
CREATE OR REPLACE FUNCTION agentflow_retry(
    p_run uuid, p_unhandled int[], p_deadline float8, p_window int, OUT verdict text, OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_status text;
    v_root uuid;
    v_admitted boolean;
    v_now timestamptz;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    v_now := agentflow_now();
    SELECT r.status, r.root_id INTO v_status, v_root FROM runs r WHERE r.id = p_run FOR NO KEY UPDATE;
    verdict := CASE WHEN v_status IS NULL THEN 'unknown' WHEN v_status = 'COMPLETED' THEN 'completed'
                    WHEN v_status NOT IN ('FAILED', 'CANCELLED') THEN 'open'
                    ELSE 'retried' END;
    IF verdict <> 'retried' THEN
        RETURN;
    END IF;
    -- A child run is RUNNING at once if its root is at work, and is admitted with its root if that is retried, too.
    v_admitted := EXISTS (SELECT FROM runs r WHERE r.id = v_root AND r.id <> p_run AND r.ended_at IS NULL
                          AND r.admitted_at IS NOT NULL);
    v_status := CASE WHEN v_admitted THEN 'RUNNING' ELSE 'QUEUED' END;
    UPDATE runs r SET status = v_status, retry_no = r.retry_no + 1, losses = 0, reason = NULL, error = NULL, stats = NULL, ended_at = NULL,
        stop_as = NULL, stop_reason = NULL, stop_due = NULL, cancel_requested_at = NULL, paused_at = NULL, suspended = false,
        started_at = coalesce(r.started_at, v_now), admitted_at = CASE WHEN v_admitted THEN v_now END,
        deadline_at = least(v_now + make_interval(secs => p_deadline), (
            SELECT p.deadline_at FROM runs p WHERE p.id = r.parent_run_id AND p.ended_at IS NULL))
    WHERE r.id = p_run;
    INSERT INTO events (run_id, kind, status, reason) VALUES (p_run, 'run', v_status, 'retried');
    UPDATE run_costs c SET shortfall = NULL WHERE c.root_id = p_run AND c.shortfall IS NOT NULL;

    -- Outputs that the stop kept from being delivered have their turn now (recovery releases them).
    UPDATE node_executions e SET open = true, hold = 'turn', check_at = v_now WHERE e.run_id = p_run AND e.hold = 'unrouted';
    -- What waited waits again, unless for a child run: that was retried before this, and is looked at anew.
    UPDATE node_executions e SET status = 'WAITING', open = true, hold = 'waiting', ended_at = NULL,
        check_at = coalesce(w.until, 'infinity')
    FROM waits w
    WHERE e.run_id = p_run AND e.status = 'CANCELLED' AND w.run_id = e.run_id AND w.node = e.node AND w.idx = e.idx
      AND w.open AND w.kind <> 'child';
    UPDATE reviews o SET status = 'WAITING', decided_at = NULL FROM waits w
    WHERE o.run_id = p_run AND o.status = 'CANCELLED' AND w.run_id = p_run AND w.node = o.node AND w.idx = o.idx
      AND w.open AND w.key = o.id::text;
    UPDATE waits w SET open = false FROM node_executions e
    WHERE w.run_id = p_run AND w.open AND w.kind = 'child' AND e.run_id = p_run AND e.node = w.node AND e.idx = w.idx
      AND e.status = 'CANCELLED';
    UPDATE node_executions e SET status = 'INCOMPLETE', ended_at = NULL
    WHERE e.run_id = p_run AND e.status = 'CANCELLED' AND e.have < e.need;
    UPDATE node_executions e SET status = 'QUEUED', open = true, ended_at = NULL, reason = NULL, error = NULL, trace = NULL,
        hold = CASE WHEN v_admitted THEN 'window' ELSE 'admission' END,
        failures = 0, losses = 0, republished = 0, due_at = NULL, queued_at = v_now, check_at = 'infinity',
        lease_until = v_now  -- a new attempt, although it may have waited
    WHERE e.run_id = p_run AND (e.status = 'CANCELLED' OR (e.status = 'FAILED' AND (e.node = ANY (p_unhandled)
                                OR e.reason = 'insufficient_balance')));  -- which never started
    IF v_admitted THEN
        SELECT o.q_node, o.q_idx INTO q_node, q_idx FROM agentflow_unhold(p_run, 'window', p_window) o;
    END IF;
END $$;

-- Child runs whose parent has ended or is being stopped, or whose waiting node execution has ended.
CREATE OR REPLACE FUNCTION agentflow_orphans() RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT c.id FROM runs c JOIN runs p ON p.id = c.parent_run_id
    LEFT JOIN node_executions e ON e.run_id = c.parent_run_id AND e.node = c.parent_node AND e.idx = c.parent_idx
    WHERE c.ended_at IS NULL AND c.stop_as IS NULL
      AND (p.stop_as IS NOT NULL OR p.ended_at IS NOT NULL OR e.status IN ('COMPLETED', 'FAILED', 'CANCELLED'))
$$;

-- A retry goes from the deepest runs of a tree up to its root, a transaction each: meanwhile runs that are open again have
-- a parent that has ended. Who retries holds this until the end of the retry, or of its connection.
CREATE OR REPLACE FUNCTION agentflow_hold_tree(p_root uuid) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_lock_shared(uuid_hash(p_root), -3)
$$;

-- Stops a child run if nobody waits for it: now, under its gate, and not while its tree is being retried.
-- verdict: as of agentflow_stop, or kept
CREATE OR REPLACE FUNCTION agentflow_stop_orphan(
    p_run uuid, p_reason text, OUT verdict text, OUT running int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    -- Not waited for: who retries holds it and waits for gates. Held to the end: a retry that begins now sees the stop.
    IF NOT (SELECT pg_try_advisory_xact_lock(uuid_hash(r.root_id), -3) FROM runs r WHERE r.id = p_run)
       OR NOT EXISTS (SELECT FROM agentflow_orphans() AS o(id) WHERE o.id = p_run) THEN
        verdict := 'kept';
        RETURN;
    END IF;
    SELECT s.verdict, s.running INTO verdict, running FROM agentflow_stop(p_run, 'CANCELLED', p_reason) s;
END $$;
