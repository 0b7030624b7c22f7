-- A run begins: its row, its inputs, and its starting node executions, which are QUEUED.
--
-- The inputs are stored as the outputs of node −1 and delivered to the input nodes' pin `value`, so that a claim needs no
-- special case for them.
--
-- i_*  the inputs: name, value (JSON text), and the number of the input node of that name (null: the graph has none)
-- s_*  the starting nodes: number, and how many linked pins each has

CREATE OR REPLACE FUNCTION agentflow_create_run(
    p_run uuid, p_owner uuid, p_graph uuid, p_version int, p_masks text, p_labels jsonb, p_priority int,
    p_deadline timestamptz, i_name text[], i_value text[], i_node int[], s_node int[], s_need int[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
BEGIN
    INSERT INTO runs (id, owner_id, graph_id, graph_version, status, masks, labels, priority, deadline_at, root_id, created_at)
    VALUES (p_run, p_owner, p_graph, p_version, 'QUEUED', p_masks, p_labels, p_priority, p_deadline, p_run, v_now);
    INSERT INTO node_executions (run_id, node, idx, status, open, have, need, queued_at, check_at)
    SELECT p_run, s.node, 1, 'QUEUED', true, s.need, s.need, v_now, v_now + agentflow_ring_grace()
    FROM unnest(s_node, s_need) AS s(node, need);
    IF i_name <> '{}' THEN
        INSERT INTO outputs (run_id, node, idx, ordinal, part, pin, value)
        SELECT p_run, -1, 1, i.n - 1, 0, i.name, i.value FROM unnest(i_name, i_value) WITH ORDINALITY AS i(name, value, n);
        INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
        SELECT p_run, i.node, 'value', 1, -1, 1, i.n - 1, 0, false
        FROM unnest(i_node) WITH ORDINALITY AS i(node, n) WHERE i.node IS NOT NULL;
    END IF;
    INSERT INTO events (run_id, kind, status) VALUES (p_run, 'run', 'QUEUED');
END $$;
