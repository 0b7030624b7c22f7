-- The one clock of all hosts, and the run gate.
--
-- agentflow_now()              the time; a test may move it for its session by `SET agentflow.clock_offset = '1 hour'`
-- agentflow_gate_shared(run)   claim, settle and release of a node execution hold it, many at a time
-- agentflow_gate_alone(run)    cancel, finalise and whatever else looks at a run as a whole hold it, one at a time
-- agentflow_gate_is_free(run)  take it alone if nobody has it; whether that went
-- agentflow_sink_locks(...)    one writer at a time for each node that values are delivered to
--
-- What waits for a lock returns true. Claim and settle assign that to a variable: PERFORM is a whole statement, at ten times the cost.
--
-- Lock order, everywhere: gate, then the row of the preceding execution, then the own row, then following rows of the
-- same node, then sinks in ascending order, then the places of an owner's active runs (10_limits.sql). All locks end with the
-- transaction. A gate is never upgraded. Before all of them comes a tree that is being retried (11_steering.sql).

CREATE OR REPLACE FUNCTION agentflow_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT clock_timestamp() + coalesce(nullif(current_setting('agentflow.clock_offset', true), ''), '0')::interval
$$;

CREATE OR REPLACE FUNCTION agentflow_gate_shared(p_run uuid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock_shared(uuid_hash_extended(p_run, 0)) IS NOT NULL
$$;

CREATE OR REPLACE FUNCTION agentflow_gate_alone(p_run uuid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock(uuid_hash_extended(p_run, 0)) IS NOT NULL
$$;

CREATE OR REPLACE FUNCTION agentflow_gate_is_free(p_run uuid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT pg_try_advisory_xact_lock(uuid_hash_extended(p_run, 0))
$$;

-- More than 32 sinks are locked as one (key −1), which every narrower delivery of the run holds shared: a fan-out to
-- 10,000 sinks would otherwise fill the server's lock table.
CREATE OR REPLACE FUNCTION agentflow_sink_locks(p_run uuid, p_sinks int[]) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_run int := uuid_hash(p_run);
    v_sinks int[];
    v_sink int;
    v_locked boolean;
BEGIN
    IF cardinality(p_sinks) = 1 THEN
        v_sinks := p_sinks;
    ELSE
        SELECT array_agg(DISTINCT s ORDER BY s) INTO v_sinks FROM unnest(p_sinks) AS s;
    END IF;
    IF cardinality(v_sinks) > 32 THEN
        RETURN pg_advisory_xact_lock(v_run, -1) IS NOT NULL;
    END IF;
    v_locked := pg_advisory_xact_lock_shared(v_run, -1) IS NOT NULL;
    FOREACH v_sink IN ARRAY v_sinks LOOP
        v_locked := pg_advisory_xact_lock(v_run, v_sink) IS NOT NULL;
    END LOOP;
    RETURN v_locked;
END $$;

-- How long a QUEUED node execution may lie unclaimed before recovery asks whether its message was lost.
CREATE OR REPLACE FUNCTION agentflow_publish_grace() RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT interval '5 seconds'
$$;
