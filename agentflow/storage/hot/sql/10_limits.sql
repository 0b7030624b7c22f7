-- Limits over all workers. Who is over a limit is held in its row, and unheld by whoever makes room.
--
-- agentflow_claim_limited   a claim under a limit of concurrency, rate or both. Verdict `held`: its turn comes later, and
--                           another takes its place in the window: q_*
-- agentflow_free_slot       frees its slots and gives each to the most urgent in the queue, of these to the longest there
-- agentflow_free_unneeded   frees, before it starts, its slots of credentials that it has no use for any more
-- agentflow_reap_slots      frees the slots of node executions that no longer run
-- agentflow_drop_limits     drops the limits of credentials that are gone
-- agentflow_leave_rates     gives the places in rates that a run no longer needs to those behind it
-- agentflow_admit           admits runs of an owner as others of theirs end
--
-- A concurrency slot is a row. It survives a lost worker together with its node execution, which finds it at its next
-- attempt. Who waits, even for a retry, frees it; but a sub-graph node keeps it until its child run has ended, so that the
-- limit counts child runs. It cannot wait for itself: the key names the level of nesting, so who holds a slot waits for
-- slots of deeper levels only, and levels are bounded. Who needs several (of a limit, and of credentials that one alone may
-- use) takes them in the order of owner and key, and keeps those it has while it waits for the next: so nobody waits in a
-- circle.
-- A rate gives each start a place in time (the generic cell rate algorithm). One that comes too early is held until its
-- place, when recovery publishes it. Who leaves the queue before (its run is stopped or paused) moves those behind it up:
-- else the others would wait for the places of a cancelled run of 10,000 items.
-- Lock order: gate, own row (a settle's), slots' key, rate's key, other rows.

-- p_slot_owners, p_slot_keys, p_slots: the limits of concurrency in their order, and how many each lets run at once
-- p_spans_waits: it keeps its slots while it waits, and is no new start after the wait (a sub-graph node)
CREATE OR REPLACE FUNCTION agentflow_claim_limited(
    p_run uuid, p_node int, p_idx int, p_pins text[], p_token uuid, p_holder text, p_lease float8,
    p_owner uuid, p_slot_owners uuid[], p_slot_keys text[], p_slots int[], p_rate_key text, p_per_second float8,
    p_spans_waits boolean, p_priority int,
    OUT verdict text, OUT attempt int, OUT emitted int, OUT failures int, OUT losses int, OUT inputs text, OUT last boolean,
    OUT resumed_from int, OUT wait text, OUT q_node int[], OUT q_idx int[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
    v_now timestamptz;
    v_place timestamptz;
    v_took text[] := '{}';
BEGIN
    PERFORM agentflow_gate_shared(p_run);
    -- Locked before the look: of two messages for one node execution, the second must see what the first took.
    FOR i IN 1 .. cardinality(p_slot_keys) LOOP
        INSERT INTO limits (owner_id, key) VALUES (p_slot_owners[i], p_slot_keys[i]) ON CONFLICT DO NOTHING;
        PERFORM FROM limits l WHERE l.owner_id = p_slot_owners[i] AND l.key = p_slot_keys[i] FOR UPDATE;
    END LOOP;
    IF p_rate_key IS NOT NULL THEN
        INSERT INTO limits (owner_id, key) VALUES (p_owner, p_rate_key) ON CONFLICT DO NOTHING;
        PERFORM FROM limits l WHERE l.owner_id = p_owner AND l.key = p_rate_key FOR UPDATE;
    END IF;
    v_now := agentflow_now();
    SELECT e.hold, e.due_at, r.stop_as, r.paused_at, p_spans_waits AND e.waited > 0 AND e.due_at IS NULL AS goes_on
    INTO v FROM node_executions e JOIN runs r ON r.id = e.run_id
    WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED';
    IF NOT FOUND OR v.hold <> 'rate' OR v.due_at > v_now THEN
        verdict := 'gone';
        RETURN;
    END IF;
    IF v.stop_as IS NULL AND v.paused_at IS NULL THEN
        FOR i IN 1 .. cardinality(p_slot_keys) LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM limit_slots s WHERE s.run_id = p_run AND s.node = p_node AND s.idx = p_idx
                AND s.owner_id = p_slot_owners[i] AND s.key = p_slot_keys[i]);
            IF (SELECT count(*) FROM limit_slots s WHERE s.owner_id = p_slot_owners[i] AND s.key = p_slot_keys[i])
                >= p_slots[i]
            THEN
                UPDATE node_executions e SET hold = 'limit', check_at = 'infinity'
                WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED' AND e.hold IS NULL;
                IF FOUND THEN
                    INSERT INTO limit_queue (owner_id, key, priority, run_id, node, idx)
                    VALUES (p_slot_owners[i], p_slot_keys[i], p_priority, p_run, p_node, p_idx) ON CONFLICT DO NOTHING;
                END IF;
                -- From an attempt that needed fewer. Who keeps a later one while it waits for this could wait in a circle.
                -- Recovery publishes who gets them.
                FOR j IN i + 1 .. cardinality(p_slot_keys) LOOP
                    DELETE FROM limit_slots s WHERE s.run_id = p_run AND s.node = p_node AND s.idx = p_idx
                    AND s.owner_id = p_slot_owners[j] AND s.key = p_slot_keys[j];
                    IF FOUND THEN
                        PERFORM FROM agentflow_fill_slots(p_slot_owners[j], p_slot_keys[j]);
                    END IF;
                END LOOP;
                verdict := 'held';
                SELECT o.q_node, o.q_idx INTO q_node, q_idx FROM agentflow_unhold(p_run, 'window', 1) o;
                last := agentflow_at_rest(p_run);
                RETURN;
            END IF;
            INSERT INTO limit_slots (run_id, node, idx, owner_id, key)
            VALUES (p_run, p_node, p_idx, p_slot_owners[i], p_slot_keys[i])
            ON CONFLICT DO NOTHING;  -- a second message for it came while we waited for the lock
            IF FOUND THEN
                v_took := v_took || p_slot_keys[i];
            END IF;
        END LOOP;
        IF p_rate_key IS NOT NULL AND v.hold IS NULL AND NOT v.goes_on THEN
            SELECT greatest(l.next_at, v_now) INTO v_place FROM limits l
            WHERE l.owner_id = p_owner AND l.key = p_rate_key;
            -- A place a century away is never reached; without the bound a queue for it would leave the calendar.
            UPDATE limits l SET next_at = least(v_place + make_interval(secs => least(1 / p_per_second, 1e9)), v_now + interval '100 years')
            WHERE l.owner_id = p_owner AND l.key = p_rate_key;
            IF v_place > v_now THEN
                UPDATE node_executions e SET hold = 'rate', due_at = v_place, check_at = v_place, republished = 0
                WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED' AND e.hold IS NULL;
                IF FOUND THEN
                    INSERT INTO rate_places (run_id, node, idx, owner_id, key, at)
                    VALUES (p_run, p_node, p_idx, p_owner, p_rate_key, v_place)
                    ON CONFLICT (run_id, node, idx) DO UPDATE SET key = excluded.key, at = excluded.at;  -- from before a retry
                END IF;
                verdict := 'held';
                SELECT o.q_node, o.q_idx INTO q_node, q_idx FROM agentflow_unhold(p_run, 'window', 1) o;
                last := agentflow_at_rest(p_run);
                RETURN;
            END IF;
        END IF;
        UPDATE node_executions e SET hold = NULL
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED' AND e.hold = 'rate';
    END IF;
    IF v.hold = 'rate' THEN
        DELETE FROM rate_places p WHERE p.run_id = p_run AND p.node = p_node AND p.idx = p_idx;
    END IF;
    SELECT c.verdict, c.attempt, c.emitted, c.failures, c.losses, c.inputs, c.last, c.resumed_from, c.wait
    INTO verdict, attempt, emitted, failures, losses, inputs, last, resumed_from, wait
    FROM agentflow_claim(p_run, p_node, p_idx, p_pins, p_token, p_holder, p_lease) c;
    IF v_took <> '{}' AND verdict <> 'claimed' THEN
        DELETE FROM limit_slots s WHERE s.run_id = p_run AND s.node = p_node AND s.idx = p_idx AND s.key = ANY (v_took);
    END IF;
END $$;

-- The same for workers of the version before, which know one limit of concurrency.
CREATE OR REPLACE FUNCTION agentflow_claim_limited(
    p_run uuid, p_node int, p_idx int, p_pins text[], p_token uuid, p_holder text, p_lease float8,
    p_owner uuid, p_slot_key text, p_slots int, p_rate_key text, p_per_second float8, p_spans_waits boolean, p_priority int,
    OUT verdict text, OUT attempt int, OUT emitted int, OUT failures int, OUT losses int, OUT inputs text, OUT last boolean,
    OUT resumed_from int, OUT wait text, OUT q_node int[], OUT q_idx int[]
) LANGUAGE sql VOLATILE AS $$
    SELECT * FROM agentflow_claim_limited(
        p_run, p_node, p_idx, p_pins, p_token, p_holder, p_lease, p_owner,
        CASE WHEN p_slot_key IS NULL THEN '{}' ELSE ARRAY[p_owner] END,
        CASE WHEN p_slot_key IS NULL THEN '{}' ELSE ARRAY[p_slot_key] END, ARRAY[p_slots], p_rate_key, p_per_second,
        p_spans_waits, p_priority)
$$;

CREATE OR REPLACE FUNCTION agentflow_free_slot(
    p_run uuid, p_node int, p_idx int, OUT run_id uuid, OUT node int, OUT idx int
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
BEGIN
    PERFORM FROM limits l JOIN limit_slots s USING (owner_id, key)
    WHERE s.run_id = p_run AND s.node = p_node AND s.idx = p_idx ORDER BY l.owner_id, l.key FOR UPDATE OF l;
    FOR v IN
        DELETE FROM limit_slots s WHERE s.run_id = p_run AND s.node = p_node AND s.idx = p_idx RETURNING s.owner_id, s.key
    LOOP
        RETURN QUERY SELECT h.run_id, h.node, h.idx FROM agentflow_fill_slots(v.owner_id, v.key) h;
    END LOOP;
END $$;

-- p_kept: the keys of the credentials that it still needs. It got the others while it was in line, and the credential was
-- deleted or shared meanwhile: it would take the slot along and keep those behind it waiting. Whether it runs is asked under
-- the lock of the keys, which a claim takes first: a second message for one that runs takes nothing from it.
CREATE OR REPLACE FUNCTION agentflow_free_unneeded(
    p_run uuid, p_node int, p_idx int, p_kept text[], OUT run_id uuid, OUT node int, OUT idx int
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
BEGIN
    PERFORM FROM limits l JOIN limit_slots s USING (owner_id, key)
    WHERE s.run_id = p_run AND s.node = p_node AND s.idx = p_idx AND s.key LIKE 'credential:%' AND s.key <> ALL (p_kept)
    ORDER BY l.owner_id, l.key FOR UPDATE OF l;
    FOR v IN
        DELETE FROM limit_slots s WHERE s.run_id = p_run AND s.node = p_node AND s.idx = p_idx
        AND s.key LIKE 'credential:%' AND s.key <> ALL (p_kept) AND EXISTS (
            SELECT FROM node_executions e
            WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx AND e.status = 'QUEUED')
        RETURNING s.owner_id, s.key
    LOOP
        RETURN QUERY SELECT h.run_id, h.node, h.idx FROM agentflow_fill_slots(v.owner_id, v.key) h;
    END LOOP;
END $$;

-- Gives free slots to the most urgent in the queue that are still held for one, of these to the first. Passes over those
-- whose run was stopped or paused meanwhile: the latter queue again when it is resumed.
CREATE OR REPLACE FUNCTION agentflow_fill_slots(
    p_owner uuid, p_key text, OUT run_id uuid, OUT node int, OUT idx int
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
    v_paused boolean;
    v_ready boolean;
    v_took boolean;
    v_now timestamptz := agentflow_now();
BEGIN
    PERFORM FROM limits l WHERE l.owner_id = p_owner AND l.key = p_key FOR UPDATE;
    LOOP
        DELETE FROM limit_queue q WHERE q.owner_id = p_owner AND q.key = p_key AND q.id = (
            SELECT n.id FROM limit_queue n WHERE n.owner_id = p_owner AND n.key = p_key
            ORDER BY n.priority DESC, n.id LIMIT 1)
        RETURNING q.run_id, q.node, q.idx INTO v;
        EXIT WHEN NOT FOUND;
        -- That run's gate is not held here. A resume that is under way unholds only what is `paused` by then: this waits
        -- for it, and looks again. (A pause that is under way is seen by the claim.)
        PERFORM FROM runs r WHERE r.id = v.run_id AND r.paused_at IS NOT NULL FOR SHARE;
        v_paused := FOUND;
        UPDATE node_executions e SET hold = CASE WHEN v_paused THEN 'paused' END, queued_at = v_now, republished = 0,
            check_at = CASE WHEN v_paused THEN 'infinity' ELSE v_now + agentflow_publish_grace() END
        WHERE e.run_id = v.run_id AND e.node = v.node AND e.idx = v.idx AND e.status = 'QUEUED' AND e.hold = 'limit'
        RETURNING e.hold IS NULL INTO v_ready;
        IF v_ready THEN
            INSERT INTO limit_slots (run_id, node, idx, owner_id, key) VALUES (v.run_id, v.node, v.idx, p_owner, p_key)
            ON CONFLICT DO NOTHING;
            v_took := FOUND;
            run_id := v.run_id; node := v.node; idx := v.idx;
            RETURN NEXT;
            -- It may have it already, from an attempt before, and wait for another key's: it asks again, and the next gets this.
            EXIT WHEN v_took;
        END IF;
    END LOOP;
END $$;

-- A slot survives a lost lease. Frees what is left of runs that were stopped or paused at that moment, and moves on a queue
-- whose slots are free.
CREATE OR REPLACE FUNCTION agentflow_reap_slots(
    p_limit int, OUT run_id uuid, OUT node int, OUT idx int
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
BEGIN
    FOR v IN
        SELECT s.run_id, s.node, s.idx FROM limit_slots s
        WHERE s.since < agentflow_now() - interval '5 seconds' AND NOT EXISTS (
            SELECT FROM node_executions e WHERE e.run_id = s.run_id AND e.node = s.node AND e.idx = s.idx
            AND (e.status IN ('RUNNING', 'WAITING')  -- a sub-graph node that waits keeps it
                 OR (e.status = 'QUEUED' AND (e.hold IS DISTINCT FROM 'paused' OR s.key LIKE 'children:%'))))
        ORDER BY s.owner_id, s.key LIMIT p_limit
    LOOP
        RETURN QUERY SELECT f.run_id, f.node, f.idx FROM agentflow_free_slot(v.run_id, v.node, v.idx) f;
    END LOOP;
    FOR v IN
        SELECT DISTINCT q.owner_id, q.key FROM limit_queue q
        WHERE NOT EXISTS (SELECT FROM limit_slots s WHERE s.owner_id = q.owner_id AND s.key = q.key)
        ORDER BY q.owner_id, q.key LIMIT p_limit
    LOOP
        RETURN QUERY SELECT h.run_id, h.node, h.idx FROM agentflow_fill_slots(v.owner_id, v.key) h;
    END LOOP;
END $$;

-- Drops the limits of credentials that were deleted, once nobody uses or awaits them. The operator's are in no table.
CREATE OR REPLACE FUNCTION agentflow_drop_limits(p_limit int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_dropped int;
BEGIN
    DELETE FROM limits d USING (
        SELECT l.owner_id, l.key FROM limits l
        WHERE l.key LIKE 'credential:%' AND l.owner_id <> '00000000-0000-0000-0000-000000000000'
        AND NOT EXISTS (SELECT FROM credentials c WHERE c.owner_id = l.owner_id AND 'credential:' || c.id = l.key)
        AND NOT EXISTS (SELECT FROM limit_slots s WHERE s.owner_id = l.owner_id AND s.key = l.key)
        AND NOT EXISTS (SELECT FROM limit_queue q WHERE q.owner_id = l.owner_id AND q.key = l.key)
        LIMIT p_limit FOR UPDATE OF l SKIP LOCKED
    ) o WHERE d.owner_id = o.owner_id AND d.key = o.key;
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    RETURN v_dropped;
END $$;

-- Those who stay take the places of the queue in their order; the first place that is left is the next to be given. Under
-- the run's gate held alone, and before its own rows: who stops another run waits for the key and holds no row meanwhile.
-- A row that somebody else has locked keeps its place, because they may be waiting for the key.
CREATE OR REPLACE FUNCTION agentflow_leave_rates(p_run uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v record;
    v_now timestamptz;
BEGIN
    FOR v IN SELECT DISTINCT p.owner_id, p.key FROM rate_places p WHERE p.run_id = p_run ORDER BY p.owner_id, p.key LOOP
        PERFORM FROM limits l WHERE l.owner_id = v.owner_id AND l.key = v.key FOR UPDATE;
        v_now := agentflow_now();
        WITH behind AS (
            SELECT p.run_id, p.node, p.idx, p.at FROM rate_places p JOIN node_executions e USING (run_id, node, idx)
            WHERE p.owner_id = v.owner_id AND p.key = v.key AND p.run_id <> p_run AND p.at > v_now
              AND e.status = 'QUEUED' AND e.hold = 'rate' FOR NO KEY UPDATE OF e SKIP LOCKED
        ), staying AS (
            SELECT b.*, row_number() OVER (ORDER BY b.at) AS nth FROM behind b
        ), places AS (
            SELECT q.at, row_number() OVER (ORDER BY q.at) AS nth FROM (
                SELECT b.at FROM behind b UNION ALL
                SELECT p.at FROM rate_places p
                WHERE p.owner_id = v.owner_id AND p.key = v.key AND p.run_id = p_run AND p.at > v_now) q
        ), moved AS (
            UPDATE rate_places r SET at = p.at FROM staying s JOIN places p USING (nth)
            WHERE r.run_id = s.run_id AND r.node = s.node AND r.idx = s.idx AND s.at <> p.at
            RETURNING r.run_id, r.node, r.idx, r.at
        ), rung_then AS (
            UPDATE node_executions e SET due_at = m.at, check_at = m.at FROM moved m
            WHERE e.run_id = m.run_id AND e.node = m.node AND e.idx = m.idx
        )
        UPDATE limits l SET next_at = p.at FROM places p
        WHERE p.nth = (SELECT count(*) + 1 FROM staying) AND l.owner_id = v.owner_id AND l.key = v.key;
    END LOOP;
    DELETE FROM rate_places p WHERE p.run_id = p_run;
END $$;

-- Beyond so many active runs of an owner, further ones wait. Not counted are runs that wait for the outside, paused ones
-- (who pauses a run wants something else to run) and child runs. Each owner has places of their own, so nobody waits
-- behind another's runs.
CREATE OR REPLACE FUNCTION agentflow_has_place(p_owner uuid, p_most int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT count(*) < p_most FROM (
        SELECT FROM runs r WHERE r.owner_id = p_owner AND r.ended_at IS NULL AND r.admitted_at IS NOT NULL
        AND r.parent_run_id IS NULL AND r.status <> 'WAITING' AND r.paused_at IS NULL LIMIT p_most) active
$$;

-- Who looks for a place and takes it holds this until the end of its transaction. (After gates.)
CREATE OR REPLACE FUNCTION agentflow_places_lock(p_owner uuid) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock(uuid_hash(p_owner), -2)
$$;

-- Whether a further run with this key has to wait: for runs that are open, or behind others that wait.
CREATE OR REPLACE FUNCTION agentflow_key_is_full(p_owner uuid, p_key text, p_limit int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT count(*) >= p_limit OR bool_or(k.waits) FROM (
        SELECT r.admitted_at IS NULL AS waits FROM runs r
        WHERE r.owner_id = p_owner AND r.run_key = p_key AND r.ended_at IS NULL LIMIT p_limit) k
$$;

-- How many runs with this key may be open: as the newest version says of which one is not ended, or else that of the run
-- that asks. So who raises the limit by a new version lets those go that wait under an older one.
CREATE OR REPLACE FUNCTION agentflow_key_limit(p_owner uuid, p_key text, p_version int, p_limit int) RETURNS int
LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT r.run_key_limit FROM runs r
        WHERE r.owner_id = p_owner AND r.run_key = p_key AND r.ended_at IS NULL AND r.graph_version > p_version
        ORDER BY r.graph_version DESC LIMIT 1), p_limit)
$$;

-- Admits the runs of an owner that have a place now, the most urgent and then the oldest first, each with the child runs
-- that were retried with it. Their gates come after the lock here, so it does not wait for them: who holds one may wait for
-- the lock. Recovery asks again soon.
CREATE OR REPLACE FUNCTION agentflow_admit(
    p_owner uuid, p_most int, p_window int, OUT run_id uuid, OUT q_node int[], OUT q_idx int[]
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_run uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM runs r WHERE r.owner_id = p_owner AND r.ended_at IS NULL AND r.admitted_at IS NULL
                   AND r.examine_at IS NULL) THEN
        RETURN;
    END IF;
    PERFORM agentflow_places_lock(p_owner);
    FOR v_run IN
        WITH busy AS (
            SELECT coalesce(r.run_key, '') AS key, count(*) AS n FROM runs r
            WHERE r.owner_id = p_owner AND r.ended_at IS NULL AND r.admitted_at IS NOT NULL AND r.parent_run_id IS NULL
            GROUP BY 1
        ), allowed AS (  -- agentflow_key_limit, of all keys
            SELECT DISTINCT ON (r.run_key) r.run_key AS key, r.run_key_limit AS most FROM runs r
            WHERE r.owner_id = p_owner AND r.ended_at IS NULL AND r.run_key IS NOT NULL
            ORDER BY r.run_key, r.graph_version DESC
        ), line AS (
            SELECT n.id, n.priority, a.most, coalesce(b.n, 0)
                + row_number() OVER (PARTITION BY n.run_key ORDER BY n.priority DESC, n.id) AS nth  -- of its key
            FROM runs n LEFT JOIN busy b ON b.key = coalesce(n.run_key, '') LEFT JOIN allowed a ON a.key = n.run_key
            WHERE n.owner_id = p_owner AND n.ended_at IS NULL AND n.admitted_at IS NULL
              AND n.examine_at IS NULL AND n.parent_run_id IS NULL
        )
        -- Among the keys in turn: one with many runs in line does not keep the others waiting.
        SELECT l.id FROM line l WHERE l.most IS NULL OR l.nth <= l.most ORDER BY l.priority DESC, l.nth, l.id
    LOOP
        EXIT WHEN NOT agentflow_has_place(p_owner, p_most);
        RETURN QUERY SELECT l.* FROM agentflow_admit_run(v_run, p_window) l;
    END LOOP;
    FOR v_run IN
        SELECT n.id FROM runs n JOIN runs t ON t.id = n.root_id
        WHERE n.owner_id = p_owner AND n.ended_at IS NULL AND n.admitted_at IS NULL AND n.parent_run_id IS NOT NULL
        AND t.ended_at IS NULL AND t.admitted_at IS NOT NULL ORDER BY n.id
    LOOP
        RETURN QUERY SELECT l.* FROM agentflow_admit_run(v_run, p_window) l;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION agentflow_admit_run(
    p_run uuid, p_window int, OUT run_id uuid, OUT q_node int[], OUT q_idx int[]
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_status text;
BEGIN
    IF NOT agentflow_gate_is_free(p_run) THEN
        RETURN;
    END IF;
    -- One that had started before it was retried is RUNNING again.
    UPDATE runs r SET admitted_at = agentflow_now(),
        status = CASE WHEN r.status = 'QUEUED' AND r.started_at IS NOT NULL THEN 'RUNNING' ELSE r.status END
    WHERE r.id = p_run AND r.ended_at IS NULL AND r.admitted_at IS NULL
    RETURNING r.id, r.status INTO run_id, v_status;
    IF NOT FOUND THEN
        RETURN;
    ELSIF v_status = 'RUNNING' THEN
        INSERT INTO events (run_id, kind, status) VALUES (p_run, 'run', 'RUNNING');
    END IF;
    SELECT o.q_node, o.q_idx INTO q_node, q_idx FROM agentflow_unhold(p_run, 'admission', p_window) o;
    UPDATE node_executions e SET hold = 'window' WHERE e.run_id = p_run AND e.hold = 'admission';
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION agentflow_owners_in_line(p_limit int) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT DISTINCT r.owner_id FROM runs r
    WHERE r.ended_at IS NULL AND r.admitted_at IS NULL AND r.examine_at IS NULL LIMIT p_limit
$$;
