-- Finds and repairs what a crash left. Each repair runs under the run's gate and is right whatever happened since the look.
--
-- agentflow_return_lease  ends a lease: it has run out (p_expired: checks that it has), or its worker reports that it is gone.
--                         RUNNING → QUEUED, for a new attempt; CANCELLED, if its run was stopped. Beyond p_bearable losses
--                         the caller gets the lease (verdict `poisoned`) and settles it. p_bearable null: returned in
--                         order, which is no loss. -1: its process was killed for its timeout, which is a failure and no
--                         loss; always `poisoned`
-- agentflow_renew         extends the leases of what a worker process is executing; says which of it must stop
-- agentflow_overdue, agentflow_overdue_runs, agentflow_forgotten_runs   list what needs a repair

CREATE OR REPLACE FUNCTION agentflow_return_lease(
    p_run uuid, p_node int, p_idx int, p_token uuid, p_expired boolean, p_bearable int,
    p_new_token uuid, p_holder text, p_lease float8,
    OUT verdict text, OUT emitted int, OUT attempt int, OUT failures int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_losses int;
    v_now timestamptz;
BEGIN
    PERFORM agentflow_gate_shared(p_run);
    v_now := agentflow_now();
    SELECT e.losses, e.emitted, e.attempt, e.failures INTO v_losses, emitted, attempt, failures FROM node_executions e
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'RUNNING' AND e.token = p_token
      AND (e.lease_until <= v_now OR NOT p_expired)
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        verdict := 'gone';
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM runs r WHERE r.id = p_run AND r.stop_as IS NOT NULL) THEN
        -- At once: whoever would have to claim it to find that out may be busy for long.
        UPDATE node_executions e SET status = 'CANCELLED', open = false, hold = NULL, token = NULL, ended_at = v_now
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
        INSERT INTO events (run_id, kind, status, node, idx, attempt)
        VALUES (p_run, 'settled', 'CANCELLED', p_node, p_idx, attempt);
        verdict := 'stopped';
        RETURN;
    END IF;
    IF p_bearable IS NULL OR v_losses < p_bearable THEN
        UPDATE node_executions e SET status = 'QUEUED', token = NULL, queued_at = v_now, republished = 0,
            losses = e.losses + CASE WHEN p_bearable IS NULL THEN 0 ELSE 1 END,
            check_at = v_now + agentflow_publish_grace()
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
        verdict := 'queued';
    ELSE
        UPDATE node_executions e SET token = p_new_token, holder = p_holder, losses = e.losses + CASE WHEN p_bearable < 0 THEN 0 ELSE 1 END,
            lease_until = v_now + make_interval(secs => p_lease), check_at = v_now + make_interval(secs => p_lease)
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
        verdict := 'poisoned';
    END IF;
    INSERT INTO events (run_id, kind, status, reason, node, idx, attempt) VALUES (
        p_run, 'lost', CASE verdict WHEN 'queued' THEN 'QUEUED' ELSE 'RUNNING' END,
        CASE WHEN p_bearable IS NULL THEN 'worker_stopped' WHEN p_bearable < 0 THEN 'timeout' ELSE 'worker_lost' END,
        p_node, p_idx, attempt);
END $$;

-- Locks rows in key order and skips those that a settle holds: that settle extends or ends the lease itself.
CREATE OR REPLACE FUNCTION agentflow_renew(
    a_holder text[], a_run uuid[], a_node int[], a_idx int[], p_lease float8,
    OUT run_id uuid, OUT node int, OUT idx int, OUT stop boolean
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN QUERY
    WITH mine AS MATERIALIZED (
        SELECT e.run_id, e.node, e.idx, e.lease_until FROM node_executions e
        JOIN unnest(a_holder, a_run, a_node, a_idx) AS a(holder, run_id, node, idx)
          ON e.run_id = a.run_id AND e.node = a.node AND e.idx = a.idx AND e.holder = a.holder
        WHERE e.status = 'RUNNING'
        ORDER BY e.run_id, e.node, e.idx FOR NO KEY UPDATE OF e SKIP LOCKED
    ), renewed AS (
        UPDATE node_executions e SET lease_until = agentflow_now() + make_interval(secs => p_lease)
        FROM mine m WHERE e.run_id = m.run_id AND e.node = m.node AND e.idx = m.idx
          AND m.lease_until < agentflow_now() + make_interval(secs => p_lease * 2 / 3)  -- the others need no renewal yet
    )
    SELECT m.run_id, m.node, m.idx, (SELECT r.stop_as IS NOT NULL FROM runs r WHERE r.id = m.run_id) FROM mine m;
END $$;

-- What is due for recovery, by the one index on check_at. Rows that need nothing are put off at the same time.
--   publish  QUEUED: a retry that is due, or unclaimed because its message was lost. While messages wait at the broker
--            (p_backlog), most likely it is one of them: then only what has waited for long, a few at a time
--   return   RUNNING, and its lease has run out (not while nobody could renew: p_steady)
--   wake     WAITING, and its time has come
--   release  closed, its outputs not routed although its predecessor's are (`open` as a number: see 05_settle.sql)
CREATE OR REPLACE FUNCTION agentflow_overdue(
    p_lease float8, p_limit int, p_backlog boolean, p_steady boolean,
    OUT action text, OUT run_id uuid, OUT node int, OUT idx int, OUT token uuid
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := agentflow_now();
    v_lease interval := make_interval(secs => p_lease);
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN QUERY
    WITH due AS (
        SELECT e.run_id, e.node, e.idx, e.status, e.token, e.lease_until, e.republished, e.queued_at, e.due_at
        FROM node_executions e
        WHERE e.open AND e.check_at <= v_now ORDER BY e.check_at LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    ), judged AS (
        SELECT d.*, CASE
            WHEN d.status = 'WAITING' THEN 'wake'
            WHEN d.status = 'QUEUED' AND (NOT p_backlog OR (d.due_at IS NOT NULL AND d.republished = 0)) THEN 'publish'
            WHEN d.status = 'QUEUED' AND d.queued_at < v_now - interval '1 minute'
                 AND row_number() OVER (PARTITION BY d.status ORDER BY d.queued_at) <= 20 THEN 'publish'
            WHEN d.status = 'RUNNING' AND d.lease_until <= v_now AND p_steady THEN 'return'
            WHEN d.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND NOT EXISTS (
                 SELECT FROM node_executions p
                 WHERE p.run_id = d.run_id AND p.node = d.node AND p.idx = d.idx - 1 AND p.open::int = 1) THEN 'release'
        END AS action FROM due d
    ), put_off AS (
        UPDATE node_executions e SET
            check_at = v_now + CASE
                -- Publish again after 5, 10, 20 … seconds, at most 5 minutes.
                WHEN j.action = 'publish' THEN least(agentflow_publish_grace() * 2 ^ j.republished, interval '5 minutes')
                WHEN j.action IS NOT NULL THEN v_lease
                -- Behind a long queue: a pass must not spend its time on what only waits. (A claim moves it forward.)
                WHEN j.status = 'QUEUED' THEN interval '60 seconds' * (1 + random())
                WHEN j.status = 'RUNNING' THEN greatest(j.lease_until - v_now, interval '1 second')
                ELSE interval '10 minutes' END,  -- who closes the gap before it releases it
            republished = CASE WHEN j.action = 'publish' THEN least(j.republished + 1, 10) ELSE e.republished END
        FROM judged j WHERE e.run_id = j.run_id AND e.node = j.node AND e.idx = j.idx
    )
    SELECT j.action, j.run_id, j.node, j.idx, j.token FROM judged j WHERE j.action IS NOT NULL;
END $$;

-- The broker's queues are empty, so what is QUEUED and was put off behind them has lost its message: makes it due now.
CREATE OR REPLACE FUNCTION agentflow_check_now(p_limit int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
    v_count bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH lost AS (
        SELECT e.run_id, e.node, e.idx FROM node_executions e
        WHERE e.open AND e.hold IS NULL AND e.check_at > v_now AND e.status = 'QUEUED' AND e.republished = 0 AND e.due_at IS NULL
          AND e.queued_at < v_now - agentflow_publish_grace()
        LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE node_executions e SET check_at = v_now FROM lost l
    WHERE e.run_id = l.run_id AND e.node = l.node AND e.idx = l.idx;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- Open runs with nothing busy in them and no reason to rest (agentflow_rest), which nobody will finalise: a worker died
-- between its last settle and the finaliser's message. Looks at p_limit runs behind p_after; `last` is where the next pass
-- continues (null: at the beginning).
CREATE OR REPLACE FUNCTION agentflow_forgotten_runs(
    p_after uuid, p_limit int, OUT forgotten uuid[], OUT last uuid
) LANGUAGE plpgsql AS $$
DECLARE
    v_seen uuid[];
BEGIN
    SELECT array_agg(w.id) INTO v_seen FROM (
        SELECT r.id FROM runs r WHERE r.ended_at IS NULL AND r.id > p_after ORDER BY r.id LIMIT p_limit
    ) w;
    SELECT coalesce(array_agg(s.id), '{}') INTO forgotten FROM unnest(v_seen) AS s(id) JOIN runs r ON r.id = s.id
    WHERE NOT EXISTS (SELECT FROM node_executions e WHERE e.run_id = s.id AND e.open AND e.hold IS NULL)
      AND (EXISTS (SELECT FROM node_executions e WHERE e.run_id = s.id AND e.hold = 'window')
           OR NOT EXISTS (SELECT FROM node_executions e WHERE e.run_id = s.id AND e.open
                          AND e.hold IN ('limit', 'rate', 'admission', 'paused')))
      AND NOT (r.status = 'WAITING' AND EXISTS (
          SELECT FROM node_executions e WHERE e.run_id = s.id AND e.open AND e.hold = 'waiting'));
    last := CASE WHEN cardinality(v_seen) = p_limit THEN v_seen[p_limit] END;
END $$;

-- Runs that must be stopped and are not yet: their deadline has passed, they have not begun in time, or who was to stop them
-- died.
CREATE OR REPLACE FUNCTION agentflow_overdue_runs(
    p_limit int, OUT run_id uuid, OUT reason text
) RETURNS SETOF record LANGUAGE sql AS $$
    (SELECT r.id, r.stop_due FROM runs r WHERE r.ended_at IS NULL AND r.stop_due IS NOT NULL AND r.stop_as IS NULL
     ORDER BY r.id LIMIT p_limit)
    UNION ALL
    (SELECT r.id, 'timeout' FROM runs r WHERE r.ended_at IS NULL AND r.deadline_at <= agentflow_now() AND r.stop_as IS NULL
     ORDER BY r.depth, r.deadline_at LIMIT p_limit)  -- parents first: their children are cancelled with them
    UNION ALL
    (SELECT r.id, 'queue_timeout' FROM runs r WHERE r.ended_at IS NULL AND r.started_at IS NULL AND r.start_by <= agentflow_now()
     AND r.stop_as IS NULL ORDER BY r.start_by LIMIT p_limit)
$$;

-- Stops a run that has not begun in time, to end FAILED. Verdict `kept`: it has begun meanwhile.
CREATE OR REPLACE FUNCTION agentflow_stop_unbegun(p_run uuid, OUT verdict text, OUT running int) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    IF EXISTS (SELECT FROM runs r WHERE r.id = p_run AND r.started_at IS NOT NULL) THEN
        verdict := 'kept';
        RETURN;
    END IF;
    SELECT s.verdict, s.running INTO verdict, running FROM agentflow_stop(p_run, 'FAILED', 'queue_timeout') s;
END $$;
