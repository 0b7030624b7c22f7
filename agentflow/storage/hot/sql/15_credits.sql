-- Keeps the credits of owners: one row of `credit_balances` for each, and the ledger, to which rows are only added.
-- Nothing here is called while credits are off.
--
-- agentflow_lock_credits    the balance, which nobody else changes until this transaction ends
-- agentflow_note_crossing   an owner is short of credits, or low on them: once until they are given some
-- agentflow_post_credits    adds one transaction to the ledger; the caller has locked the balance
-- agentflow_give_credits    a top-up, a grant or a refund: once for each cause
-- agentflow_hold_credits    before a block starts: holds its price back, or says that the owner lacks it
-- agentflow_charge          with a settlement: gives back what was held, and takes what the attempt cost
-- agentflow_pay             the same as a consequence of a settlement, noted in the node execution and, if the owner
--                           lacked some of it, in the tree of runs
-- agentflow_drop_holds      gives back what is held for node executions that have ended without a settlement
--
-- The balance is locked last: whoever holds it waits for nothing else, and so no two wait for each other.

CREATE OR REPLACE FUNCTION agentflow_lock_credits(p_owner uuid) RETURNS credit_balances LANGUAGE plpgsql AS $$
DECLARE
    v credit_balances;
    v_today date := (agentflow_now() AT TIME ZONE 'UTC')::date;
BEGIN
    LOOP
        SELECT b.* INTO v FROM credit_balances b WHERE b.owner_id = p_owner FOR NO KEY UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO credit_balances (owner_id) VALUES (p_owner) ON CONFLICT DO NOTHING;
    END LOOP;
    IF v.day IS DISTINCT FROM v_today THEN
        v.day := v_today;
        v.spent := 0;
    END IF;
    RETURN v;
END $$;

-- An owner came to be 'short' (something could not be paid) or 'low' (fewer credits than the operator's limit). Returns
-- true once, until they are given credits. This is where their notice is to be written: it is in the transaction that
-- causes it, and the balance, which the caller has locked, lets no two transactions cross at once.
CREATE OR REPLACE FUNCTION agentflow_note_crossing(p_owner uuid, p_what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF p_what = 'low' THEN
        UPDATE credit_balances b SET low_since = agentflow_now() WHERE b.owner_id = p_owner AND b.low_since IS NULL;
    ELSE
        UPDATE credit_balances b SET short_since = agentflow_now() WHERE b.owner_id = p_owner AND b.short_since IS NULL;
    END IF;
    RETURN FOUND;
END $$;

-- p_spent: by how much it changes what was spent today.
-- p_low: the owner is low on credits with fewer than so many; null: nobody ever is.
CREATE OR REPLACE FUNCTION agentflow_post_credits(
    p_owner uuid, p_type text, p_amount bigint, p_spent bigint, p_unpaid bigint, p_reason text, p_cause text, p_made_by uuid,
    p_run uuid, p_node int, p_idx int, p_attempt int, p_node_id text, p_block text, p_low bigint
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_today date := (agentflow_now() AT TIME ZONE 'UTC')::date;
    v_balance bigint;
    v_number bigint;
    v_low_since timestamptz;
BEGIN
    UPDATE credit_balances b SET balance = b.balance + p_amount, last_number = b.last_number + 1, day = v_today,
        spent = greatest(CASE WHEN b.day = v_today THEN b.spent ELSE 0 END + p_spent, 0)
    WHERE b.owner_id = p_owner RETURNING b.balance, b.last_number, b.low_since
    INTO v_balance, v_number, v_low_since;
    INSERT INTO credit_transactions (owner_id, number, type, amount, balance, unpaid, reason, cause, made_by,
                                     run_id, node, idx, attempt, node_id, block)
    VALUES (p_owner, v_number, p_type, p_amount, v_balance, p_unpaid, p_reason, p_cause, p_made_by,
            p_run, p_node, p_idx, p_attempt, p_node_id, p_block);
    IF p_amount < 0 AND v_balance < p_low AND v_low_since IS NULL THEN
        PERFORM agentflow_note_crossing(p_owner, 'low');
    END IF;
    RETURN v_number;
END $$;

-- verdict: given    now
--          before   its cause was there before; of which owner, with what type and amount the caller compares
--          full     the balance would exceed p_most
CREATE OR REPLACE FUNCTION agentflow_give_credits(
    p_owner uuid, p_type text, p_amount bigint, p_reason text, p_cause text, p_made_by uuid, p_most bigint,
    p_low bigint, OUT verdict text, OUT of_owner uuid, OUT number bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v credit_balances;
BEGIN
    -- Two deliveries of one cause at once are in line, also those that name different owners.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_cause, 0));
    v := agentflow_lock_credits(p_owner);
    SELECT t.owner_id, t.number INTO of_owner, number FROM credit_transactions t WHERE t.cause = p_cause;
    IF FOUND THEN
        verdict := 'before';
    ELSIF v.balance + p_amount > p_most THEN
        verdict := 'full';
    ELSE
        verdict := 'given';
        of_owner := p_owner;
        number := agentflow_post_credits(p_owner, p_type, p_amount, 0, 0, p_reason, p_cause, p_made_by,
                                         NULL, NULL, NULL, NULL, NULL, NULL, NULL);
        UPDATE credit_balances b SET short_since = NULL,
            low_since = CASE WHEN b.balance < p_low THEN b.low_since END
        WHERE b.owner_id = p_owner AND (b.short_since IS NOT NULL OR b.low_since IS NOT NULL);
    END IF;
END $$;

-- Holds p_amount back, under the lease p_token. What an earlier attempt held, which was lost, is taken over: only the
-- difference is held. With 0 nothing is held, but the balance must not be empty. p_most_a_day: unless the owner has a
-- limit of their own; null: none.
--
-- The commit is asynchronous, as the claim's is: a server that crashes loses both or neither.
--
-- verdict: held   (or nothing had to be)
--          short  the owner has less than that: balance
--          limit  it would be more than the owner may spend a day: balance is what is left of that
-- first:   it is short, and nothing was since the owner was given credits last
-- p_low:   see agentflow_post_credits
CREATE OR REPLACE FUNCTION agentflow_hold_credits(
    p_run uuid, p_node int, p_idx int, p_token uuid, p_owner uuid, p_attempt int, p_node_id text, p_block text, p_amount bigint,
    p_most_a_day bigint, p_low bigint, OUT verdict text, OUT balance bigint, OUT first boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v credit_balances;
    v_before bigint;
    v_more bigint;
    v_left bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    v := agentflow_lock_credits(p_owner);
    SELECT h.amount INTO v_before FROM credit_holds h WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx;
    v_more := p_amount - coalesce(v_before, 0);
    v_left := coalesce(v.daily_limit, p_most_a_day) - v.spent;  -- null: there is no limit
    IF v_left < 0 THEN
        v_left := 0;
    END IF;
    first := false;
    IF v.balance < v_more OR (p_amount = 0 AND v_before IS NULL AND v.balance = 0) THEN
        verdict := 'short';
        balance := v.balance + coalesce(v_before, 0);
    ELSIF v_left < v_more OR (p_amount = 0 AND v_before IS NULL AND v_left = 0) THEN
        verdict := 'limit';
        balance := v_left;
    ELSE
        verdict := 'held';
        balance := v.balance - v_more;
    END IF;
    IF verdict <> 'held' THEN
        first := agentflow_note_crossing(p_owner, 'short');
        RETURN;
    END IF;
    IF v_more <> 0 THEN
        PERFORM agentflow_post_credits(p_owner, 'RESERVE', -v_more, v_more, 0, 'held back', 'hold ' || p_token, NULL,
                                       p_run, p_node, p_idx, p_attempt, p_node_id, p_block, p_low);
    END IF;
    IF p_amount = 0 THEN
        DELETE FROM credit_holds h WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx;
    ELSE
        INSERT INTO credit_holds AS h (run_id, node, idx, owner_id, token, amount)
        VALUES (p_run, p_node, p_idx, p_owner, p_token, p_amount)
        ON CONFLICT (run_id, node, idx) DO UPDATE SET token = excluded.token, amount = excluded.amount;
    END IF;
END $$;

-- p_charge: owner, token, attempt, node_id, block; amount: what the attempt cost; used: what it cost if its run was
-- stopped (it is CANCELLED then); held: something may be held for it, and is given back; low: see agentflow_post_credits.
-- paid:     what was taken
-- missing:  what the owner lacked of it
-- had:      their balance before
CREATE OR REPLACE FUNCTION agentflow_charge(
    p_run uuid, p_node int, p_idx int, p_charge json, p_landed boolean, OUT paid bigint, OUT missing bigint, OUT had bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_owner uuid := p_charge ->> 'owner';
    v_token text := p_charge ->> 'token';
    v_attempt int := p_charge ->> 'attempt';
    v_price bigint := coalesce((p_charge ->> CASE WHEN p_landed THEN 'amount' ELSE 'used' END)::bigint, 0);
    v_balance credit_balances := agentflow_lock_credits(v_owner);
    v_held bigint;
BEGIN
    had := v_balance.balance;
    IF p_charge -> 'held' IS NOT NULL THEN
        DELETE FROM credit_holds h WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx RETURNING h.amount INTO v_held;
        IF FOUND THEN
            had := had + v_held;
            PERFORM agentflow_post_credits(v_owner, 'RESERVE', v_held, -v_held, 0, 'given back', 'settled ' || v_token, NULL,
                                           p_run, p_node, p_idx, v_attempt, p_charge ->> 'node_id', p_charge ->> 'block',
                                           NULL);
        END IF;
    END IF;
    paid := least(v_price, had);
    missing := v_price - paid;
    IF v_price > 0 THEN
        PERFORM agentflow_post_credits(v_owner, 'USAGE', -paid, paid, missing, 'used', 'used ' || v_token, NULL,
                                       p_run, p_node, p_idx, v_attempt, p_charge ->> 'node_id', p_charge ->> 'block',
                                       (p_charge ->> 'low')::bigint);
    END IF;
    IF missing > 0 THEN
        PERFORM agentflow_note_crossing(v_owner, 'short');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION agentflow_note_shortfall(p_run uuid, p_what text) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO run_costs AS c (root_id, cost, shortfall) SELECT r.root_id, 0, p_what FROM runs r WHERE r.id = p_run
    ON CONFLICT (root_id) DO UPDATE SET shortfall = excluded.shortfall
$$;

-- Whether the owner lacked some of it, and the run is to be stopped. `charged` counts what was taken: the ledger and the
-- node executions can be held against each other.
CREATE OR REPLACE FUNCTION agentflow_pay(p_run uuid, p_node int, p_idx int, p_charge json, p_landed boolean)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_used bigint := coalesce((p_charge ->> 'used')::bigint, 0);
    v record;
BEGIN
    IF NOT p_landed AND v_used > 0 THEN  -- the settlement of a stopped run does not count it
        INSERT INTO run_costs AS c (root_id, cost) SELECT r.root_id, v_used FROM runs r WHERE r.id = p_run
        ON CONFLICT (root_id) DO UPDATE SET cost = c.cost + excluded.cost;
    END IF;
    SELECT c.paid, c.missing, c.had INTO v FROM agentflow_charge(p_run, p_node, p_idx, p_charge, p_landed) c;
    IF v.paid > 0 OR (NOT p_landed AND v_used > 0) THEN
        UPDATE node_executions e SET stats = agentflow_add_stats(e.stats, jsonb_build_object('charged', v.paid)
            || CASE WHEN p_landed THEN '{}' ELSE jsonb_build_object('cost', v_used) END)
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
    END IF;
    IF v.missing = 0 OR NOT p_landed THEN
        RETURN false;
    END IF;
    PERFORM agentflow_note_shortfall(p_run, format('%s (%s) cost %s credits, and the balance was %s', p_charge ->> 'block',
                                                   p_charge ->> 'node_id', v.paid + v.missing, v.had));
    UPDATE runs r SET stop_due = 'insufficient_balance' WHERE r.id = p_run AND r.stop_due IS NULL;
    RETURN true;
END $$;

-- A settled one has none. What is left is of node executions that were cancelled while they were to be tried again, or
-- waited, or whose run is gone. At most p_limit; returns how many.
CREATE OR REPLACE FUNCTION agentflow_drop_holds(p_limit int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v record;
    v_count int := 0;
    v_amount bigint;
BEGIN
    FOR v IN
        SELECT h.run_id, h.node, h.idx, h.owner_id, h.token FROM credit_holds h
        WHERE NOT EXISTS (SELECT FROM node_executions e WHERE e.run_id = h.run_id AND e.node = h.node AND e.idx = h.idx
                          AND e.status IN ('QUEUED', 'RUNNING', 'WAITING'))
        ORDER BY h.owner_id LIMIT p_limit
    LOOP
        PERFORM agentflow_lock_credits(v.owner_id);
        DELETE FROM credit_holds h WHERE h.run_id = v.run_id AND h.node = v.node AND h.idx = v.idx AND h.token = v.token
        RETURNING h.amount INTO v_amount;
        IF FOUND THEN
            v_count := v_count + 1;
            PERFORM agentflow_post_credits(v.owner_id, 'RESERVE', v_amount, -v_amount, 0, 'given back',
                                           'dropped ' || v.token, NULL, v.run_id, v.node, v.idx, NULL, NULL, NULL, NULL);
        END IF;
    END LOOP;
    RETURN v_count;
END $$;
