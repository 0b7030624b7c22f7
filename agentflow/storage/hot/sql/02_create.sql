-- A run begins: its row, its inputs, and its starting node executions, which are QUEUED.
--
-- The inputs are stored as the outputs of node −1 and delivered to the input nodes' pin `value`, so that a claim needs no
-- special case for them.
--
-- p_most    active runs that the owner may have: beyond, the run is held until another of theirs has ended. Null: it is a
--           child run, or takes over another's place
-- p_at_once  null, or {key, limit, when_full}: so many runs of its owner with this key may be open. Beyond, it is held; or
--           not made, and `full` names one of them; or the oldest of them are to be cancelled (`superseded`), and it is held
--           until they have ended. None overtakes another that is held
-- p_start_by  if it has not begun by then, it ends FAILED
-- p_examine  it is held until moderation has examined what it is given (agentflow_pass_run)
-- p_window  node executions that are QUEUED and not held, at most
-- i_*  the inputs: name, value (JSON text)
-- d_*  the input nodes that get one: which (its place in i_*, from 0), and the number of the node
-- s_*  the starting nodes: number, and how many linked pins each has
-- f_*  nodes whose first execution waits for fewer pins than the later ones (graph/feedback.py): number, and how many. Its
--      row is there from the start, so that a delivery knows no special case

CREATE OR REPLACE FUNCTION agentflow_create_run(
    p_run uuid, p_owner uuid, p_graph uuid, p_version int, p_masks text, p_labels jsonb, p_priority int,
    p_deadline timestamptz, p_budget bigint, p_node_limit int, p_parent uuid, p_parent_node int, p_parent_idx int, p_parent_call text,
    p_forked_from uuid, p_schedule uuid, p_at_once jsonb, p_start_by timestamptz, p_most int, p_examine boolean, p_window int,
    i_name text[], i_value text[], d_place int[], d_node int[], s_node int[], s_need int[],
    f_node int[], f_need int[], OUT q_node int[], OUT created boolean, OUT full_of uuid, OUT superseded uuid[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
    v_hold text;
    v_key text := p_at_once ->> 'key';
    v_limit int := p_at_once ->> 'limit';
    v_allowed int;
    v_open uuid[];
    v_parent record;
BEGIN
    IF p_parent IS NOT NULL THEN
        -- Pausing and resuming hold it alone, and look for child runs after: none slips through between.
        PERFORM agentflow_gate_shared(p_parent);
    END IF;
    SELECT r.root_id, r.depth, r.deadline_at, r.paused_at, r.suspended INTO v_parent FROM runs r WHERE r.id = p_parent;
    IF p_most IS NOT NULL THEN
        PERFORM agentflow_places_lock(p_owner);
        v_hold := CASE WHEN p_examine OR NOT agentflow_has_place(p_owner, p_most) THEN 'admission' END;
    END IF;
    IF v_key IS NOT NULL THEN
        v_allowed := agentflow_key_limit(p_owner, v_key, p_version, v_limit);
        IF p_at_once ->> 'when_full' <> 'queue' THEN
            SELECT array_agg(r.id ORDER BY r.id) INTO v_open FROM runs r
            WHERE r.owner_id = p_owner AND r.run_key = v_key AND r.ended_at IS NULL AND r.stop_as IS NULL AND r.stop_due IS NULL;
            IF p_at_once ->> 'when_full' = 'skip' AND cardinality(v_open) >= v_allowed THEN
                created := false;
                full_of := v_open[1];
                RETURN;
            END IF;
            superseded := v_open[:greatest(cardinality(v_open) - v_allowed + 1, 0)];
            UPDATE runs r SET stop_due = 'superseded' WHERE r.id = ANY (superseded);
        END IF;
        IF agentflow_key_is_full(p_owner, v_key, v_allowed) THEN
            v_hold := 'admission';
        END IF;
    END IF;
    INSERT INTO runs (id, owner_id, graph_id, graph_version, status, masks, labels, priority, deadline_at, budget, node_limit, created_at,
                      parent_run_id, parent_node, parent_idx, parent_call, root_id, depth, paused_at, suspended, forked_from, schedule_id,
                      run_key, run_key_limit, start_by, admitted_at, examine_at)
    VALUES (p_run, p_owner, p_graph, p_version, 'QUEUED', p_masks, p_labels, p_priority,
            least(p_deadline, v_parent.deadline_at), p_budget, p_node_limit, v_now, p_parent, p_parent_node, p_parent_idx, p_parent_call,
            coalesce(v_parent.root_id, p_run), coalesce(v_parent.depth + 1, 0), v_parent.paused_at, coalesce(v_parent.suspended, false),
            p_forked_from, p_schedule,
            v_key, v_limit, p_start_by, CASE WHEN v_hold IS NULL THEN v_now END,
            CASE WHEN p_examine THEN v_now + agentflow_examine_grace() END)
    ON CONFLICT (parent_run_id, parent_node, parent_idx, parent_call) DO NOTHING;
    created := FOUND;
    IF NOT created THEN
        RETURN;
    END IF;
    INSERT INTO node_executions (run_id, node, idx, status, open, hold, have, need, queued_at, check_at)
    SELECT p_run, s.node, 1, 'QUEUED', true, coalesce(v_hold, CASE WHEN s.n > p_window THEN 'window' END), s.need, s.need, v_now,
           CASE WHEN v_hold IS NULL AND s.n <= p_window THEN v_now + agentflow_publish_grace() ELSE 'infinity' END
    FROM unnest(s_node, s_need) WITH ORDINALITY AS s(node, need, n);
    q_node := CASE WHEN v_hold IS NULL THEN s_node[:p_window] END;
    IF f_node <> '{}' THEN
        INSERT INTO node_executions (run_id, node, idx, status, open, have, need, check_at)
        SELECT p_run, f.node, 1, 'INCOMPLETE', false, 0, f.need, v_now FROM unnest(f_node, f_need) AS f(node, need);
    END IF;
    IF i_name <> '{}' THEN
        INSERT INTO outputs (run_id, node, idx, ordinal, part, pin, value)
        SELECT p_run, -1, 1, i.n - 1, 0, i.name, i.value FROM unnest(i_name, i_value) WITH ORDINALITY AS i(name, value, n);
        INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
        SELECT p_run, d.node, 'value', 1, -1, 1, d.place, 0, false FROM unnest(d_place, d_node) AS d(place, node);
    END IF;
    INSERT INTO events (run_id, kind, status) VALUES (p_run, 'run', 'QUEUED');
END $$;
