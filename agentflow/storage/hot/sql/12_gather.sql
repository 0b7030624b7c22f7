-- Gathers the values on one pin of all executions of a node into lists: groups of p_size, and the remainder when nothing of
-- the run is open. No list is copied from one execution to the next: a group is read where its values are stored.
--
-- agentflow_gathered   the group that execution p_idx completes, as a JSON list; null: none
-- agentflow_flush      makes an execution for the remainder. It takes a place on the pin as if a value had arrived (source
--                      node −2), so that later values go behind it; groups are counted from the last such place. The
--                      node's other pins get their last values again. p_size null: unknown, or none. p_empty: gives an
--                      empty list if no value came at all

CREATE OR REPLACE FUNCTION agentflow_gathered(p_run uuid, p_node int, p_pin text, p_idx int, p_size int)
RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_flush boolean;
    v_base int;
    v_from int;
    v_to int;
    v_list text;
BEGIN
    SELECT d.source_node = -2 INTO v_flush FROM deliveries d
    WHERE d.run_id = p_run AND d.node = p_node AND d.pin = p_pin AND d.idx = p_idx;
    SELECT coalesce(max(d.idx), 0) INTO v_base FROM deliveries d
    WHERE d.run_id = p_run AND d.node = p_node AND d.pin = p_pin AND d.idx < p_idx AND d.source_node = -2;
    IF v_flush THEN
        v_to := p_idx - 1;
        v_from := CASE WHEN p_size IS NULL THEN v_base + 1 ELSE v_to - mod(v_to - v_base, p_size) + 1 END;
    ELSIF p_size IS NULL OR mod(p_idx - v_base, p_size) <> 0 THEN
        RETURN NULL;
    ELSE
        v_to := p_idx;
        v_from := p_idx - p_size + 1;
    END IF;
    SELECT '[' || string_agg(o.value, ',' ORDER BY d.idx) || ']' INTO v_list
    FROM deliveries d
    JOIN outputs o ON o.run_id = d.run_id AND o.node = d.source_node AND o.idx = d.source_idx
                  AND o.ordinal = d.source_ordinal AND o.part = d.source_part
    WHERE d.run_id = p_run AND d.node = p_node AND d.pin = p_pin AND d.idx BETWEEN v_from AND v_to;
    RETURN CASE WHEN v_list IS NULL AND v_to = 0 THEN '[]' ELSE v_list END;
END $$;

-- The caller holds the gate alone, and nothing of the run is open. Returns the new execution; null: nothing remains.
CREATE OR REPLACE FUNCTION agentflow_flush(p_run uuid, p_node int, p_pin text, p_size int, p_need int, p_empty boolean)
RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_last int;
    v_base int;
    v_now timestamptz := agentflow_now();
BEGIN
    SELECT d.idx INTO v_last FROM deliveries d WHERE d.run_id = p_run AND d.node = p_node AND d.pin = p_pin
    ORDER BY d.idx DESC LIMIT 1;
    p_empty := p_empty AND v_last IS NULL;
    v_last := coalesce(v_last, 0);
    SELECT coalesce(max(d.idx), 0) INTO v_base FROM deliveries d
    WHERE d.run_id = p_run AND d.node = p_node AND d.pin = p_pin AND d.source_node = -2;
    IF NOT p_empty AND (v_last = v_base OR mod(v_last - v_base, p_size) = 0) THEN
        RETURN NULL;
    END IF;
    INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
    VALUES (p_run, p_node, p_pin, v_last + 1, -2, 0, 0, 0, false);
    INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
    SELECT p_run, p_node, l.pin, v_last + 1, l.source_node, l.source_idx, l.source_ordinal, l.source_part, true
    FROM (SELECT DISTINCT ON (d.pin) d.* FROM deliveries d WHERE d.run_id = p_run AND d.node = p_node AND d.pin <> p_pin
          ORDER BY d.pin, d.idx DESC) l
    ON CONFLICT DO NOTHING;
    INSERT INTO node_executions AS e (run_id, node, idx, status, open, have, need, queued_at, check_at)
    VALUES (p_run, p_node, v_last + 1, 'QUEUED', true, p_need, p_need, v_now, v_now + agentflow_publish_grace())
    ON CONFLICT (run_id, node, idx) DO UPDATE SET status = 'QUEUED', open = true, have = p_need, queued_at = v_now,
        check_at = excluded.check_at
    WHERE e.status = 'INCOMPLETE';
    RETURN CASE WHEN FOUND THEN v_last + 1 END;
END $$;
