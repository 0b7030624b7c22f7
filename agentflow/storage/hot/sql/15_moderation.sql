-- Runs that are held until moderation has examined what they are given. `runs.examine_at` is when that is to be asked (again).
--
-- agentflow_pass_run(run)     it may be admitted; its owner
-- agentflow_withhold(run)     takes away what it was given
-- agentflow_to_examine(most)  runs whose message was lost, most likely; each is left alone for a while then

CREATE OR REPLACE FUNCTION agentflow_examine_grace() RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT interval '2 minutes'
$$;

-- What stands in place of a value that moderation refused.
CREATE OR REPLACE FUNCTION agentflow_withheld() RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT '"[withheld by moderation]"'
$$;

CREATE OR REPLACE FUNCTION agentflow_pass_run(p_run uuid) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    v_owner uuid;
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    UPDATE runs r SET examine_at = NULL WHERE r.id = p_run AND r.ended_at IS NULL AND r.examine_at IS NOT NULL
    RETURNING r.owner_id INTO v_owner;
    RETURN v_owner;
END $$;

CREATE OR REPLACE FUNCTION agentflow_withhold(p_run uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM agentflow_gate_alone(p_run);
    UPDATE outputs o SET value = agentflow_withheld() WHERE o.run_id = p_run AND o.node = -1;
    UPDATE runs r SET masks = NULL WHERE r.id = p_run;
END $$;

CREATE OR REPLACE FUNCTION agentflow_to_examine(p_most int) RETURNS SETOF uuid LANGUAGE sql VOLATILE AS $$
    UPDATE runs r SET examine_at = agentflow_now() + agentflow_examine_grace() WHERE r.id IN (
        SELECT e.id FROM runs e WHERE e.ended_at IS NULL AND e.stop_as IS NULL AND e.examine_at < agentflow_now()
        LIMIT p_most FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING r.id
$$;
