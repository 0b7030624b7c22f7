-- Records which lanes workers serve, and finds what waits in a lane that nobody serves.
--
-- agentflow_serve          records that a worker serves these lanes; called every few seconds
-- agentflow_served_lanes   the lanes that some worker serves
-- agentflow_unserved       how long a node execution has waited in an unserved lane, and how often it was published again
--
-- A lane is served if a worker has said so within half a minute: a restart does not count as an absence.

CREATE OR REPLACE FUNCTION agentflow_serve(p_lanes text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO lanes AS l (lane, served_at) SELECT DISTINCT s, agentflow_now() FROM unnest(p_lanes) AS s ORDER BY s
    ON CONFLICT (lane) DO UPDATE SET served_at = excluded.served_at;
END $$;

CREATE OR REPLACE FUNCTION agentflow_served_lanes() RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT l.lane FROM lanes l WHERE l.served_at > agentflow_now() - interval '30 seconds'
$$;

-- Nulls if it does not wait there. Deletes lanes that nobody has served for a week.
CREATE OR REPLACE FUNCTION agentflow_unserved(
    p_run uuid, p_node int, p_idx int, p_lane text, OUT seconds float8, OUT republished int
) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
    v_ready timestamptz;
BEGIN
    IF EXISTS (SELECT FROM agentflow_served_lanes() AS s WHERE s = p_lane) THEN
        RETURN;
    END IF;
    SELECT greatest(e.queued_at, e.due_at, (SELECT l.served_at FROM lanes l WHERE l.lane = p_lane)), e.republished INTO v_ready, republished
    FROM node_executions e WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED' AND e.hold IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM lanes l WHERE l.served_at < v_now - interval '7 days' AND l.lane <> p_lane;
    seconds := extract(epoch FROM v_now - v_ready)::float8;
END $$;
