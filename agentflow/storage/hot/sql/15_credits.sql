-- Keeps the credits of owners: one row of `credit_balances` for each, the ledger, to which rows are only added, and what is
-- held back for node executions that run. Nothing here is called while credits are off.
--
-- agentflow_lock_credits      the balance, which nobody else changes until this transaction ends
-- agentflow_note_crossing     an owner is short of credits, or low on them: once until they are given some
-- agentflow_give_credits      a top-up, a grant or a refund: once for each cause
-- agentflow_hold_credits      before a block starts: holds its price back, or says that the owner lacks it
-- agentflow_charge            with a settlement: takes what the attempt cost
-- agentflow_charge_stopped    the same, if the run was stopped
-- agentflow_note_unpaid       the owner lacked some of it: noted in the tree of runs, and the run must be stopped
-- agentflow_post_charges      adds an owner's charges to the ledger, in the order in which they were settled
-- agentflow_post_some         the same for those of many owners
-- agentflow_drop_holds        lets go of what is held for node executions that have ended without a settlement
--
-- `balance` is the sum of the owner's transactions, `held` that of what is held back; the difference is what they may spend.
-- A settlement within what is held writes its price into the hold, and locks no balance: a durable commit takes so long that
-- else one owner's node executions would wait for each other. The hold stays until its charge is posted, so that nothing can
-- be spent twice. Whoever reads the ledger posts first.
-- The balance is locked last, but for the holds of its owner: who waits for a balance has none of these locked, and so no two
-- wait for each other.

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
-- true once, until they are given credits. The notification is in the transaction that causes it, and the balance, which
-- the caller has locked, lets no two transactions cross at once. Its cause is the place in the ledger: being given credits,
-- which alone lets an owner cross again, is a row of it.
CREATE OR REPLACE FUNCTION agentflow_note_crossing(p_owner uuid, p_what text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v record;
BEGIN
    IF p_what = 'low' THEN
        UPDATE credit_balances b SET low_since = agentflow_now() WHERE b.owner_id = p_owner AND b.low_since IS NULL
        RETURNING b.balance, b.last_number INTO v;
    ELSE
        UPDATE credit_balances b SET short_since = agentflow_now() WHERE b.owner_id = p_owner AND b.short_since IS NULL
        RETURNING b.balance, b.last_number INTO v;
    END IF;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM agentflow_note(p_owner, CASE p_what WHEN 'low' THEN 'low_balance' ELSE 'zero_balance' END,
        format('%s-balance:%s', CASE p_what WHEN 'low' THEN 'low' ELSE 'zero' END, v.last_number),
        jsonb_build_object('balance', v.balance));
    RETURN true;
END $$;

-- verdict: given    now
--          before   its cause was there before; of which owner, with what type and amount the caller compares
--          full     the balance would exceed p_most
-- p_low:   see agentflow_post_charges
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
    v := agentflow_post_charges(p_owner, p_low);
    SELECT t.owner_id, t.number INTO of_owner, number FROM credit_transactions t WHERE t.cause = p_cause;
    IF FOUND THEN
        verdict := 'before';
    ELSIF v.balance + p_amount > p_most THEN
        verdict := 'full';
    ELSE
        verdict := 'given';
        of_owner := p_owner;
        number := v.last_number + 1;
        UPDATE credit_balances b SET balance = v.balance + p_amount, last_number = v.last_number + 1, short_since = NULL,
            low_since = CASE WHEN v.balance + p_amount < p_low THEN b.low_since END
        WHERE b.owner_id = p_owner;
        INSERT INTO credit_transactions (owner_id, number, type, amount, balance, reason, cause, made_by)
        VALUES (p_owner, v.last_number + 1, p_type, p_amount, v.balance + p_amount, p_reason, p_cause, p_made_by);
    END IF;
END $$;

-- Holds p_amount back. What an earlier attempt held, which was lost, is taken over. With 0 nothing is held, but something
-- must be there. With null nothing is done: what would have been claimed in the same statement was not.
-- p_most_a_day: unless the owner has a limit of their own; null: none.
--
-- The commit is asynchronous, as the claim's is: a server that crashes loses both or neither.
--
-- verdict:   held   (or nothing had to be)
--            short  the owner has less than that
--            limit  it would be more than the owner may spend a day
-- available: what they have beside what is held back; of `limit`, what is left of that
-- first:     it is short, and nothing was since the owner was given credits last
-- p_low:     see agentflow_post_charges
CREATE OR REPLACE FUNCTION agentflow_hold_credits(
    p_run uuid, p_node int, p_idx int, p_owner uuid, p_amount bigint, p_most_a_day bigint, p_low bigint,
    OUT verdict text, OUT available bigint, OUT first boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v credit_balances;
    v_today date;
    v_before bigint;
    v_least bigint;
    v_left bigint;
BEGIN
    IF p_amount IS NULL THEN
        RETURN;
    END IF;
    SET LOCAL synchronous_commit = off;
    SELECT h.amount INTO v_before FROM credit_holds h WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx;
    IF v_before IS NULL AND p_amount > 0 THEN  -- nearly always; in one statement, if there is enough
        v_today := (agentflow_now() AT TIME ZONE 'UTC')::date;
        UPDATE credit_balances b SET held = b.held + p_amount
        WHERE b.owner_id = p_owner AND b.balance - b.held >= p_amount
          AND (coalesce(b.daily_limit, p_most_a_day) IS NULL OR coalesce(b.daily_limit, p_most_a_day) - b.held
               - CASE WHEN b.day = v_today THEN b.spent ELSE 0 END >= p_amount)
        RETURNING b.balance - b.held INTO available;
        IF FOUND THEN
            INSERT INTO credit_holds (run_id, node, idx, owner_id, amount)
            VALUES (p_run, p_node, p_idx, p_owner, p_amount) ON CONFLICT DO NOTHING;
            IF NOT FOUND THEN  -- an attempt that was lost has just held it: the call is made again
                RAISE EXCEPTION 'it is held back already' USING ERRCODE = 'serialization_failure';
            END IF;
            verdict := 'held';
            first := false;
            RETURN;
        END IF;
    END IF;
    v := agentflow_post_charges(p_owner, p_low);  -- among them may be that of an earlier attempt at it
    SELECT h.amount INTO v_before FROM credit_holds h WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx;
    v_before := coalesce(v_before, 0);
    available := v.balance - v.held + v_before;
    v_left := coalesce(v.daily_limit, p_most_a_day) - v.spent - v.held + v_before;  -- null: there is no limit
    v_least := greatest(p_amount, 1);
    IF available < v_least THEN
        verdict := 'short';
    ELSIF v_left < v_least THEN
        verdict := 'limit';
        available := greatest(v_left, 0);
    ELSE
        verdict := 'held';
        first := false;
        available := available - p_amount;
        UPDATE credit_balances b SET held = v.held - v_before + p_amount
        WHERE b.owner_id = p_owner AND v_before <> p_amount;
        IF p_amount > 0 THEN
            INSERT INTO credit_holds AS h (run_id, node, idx, owner_id, amount)
            VALUES (p_run, p_node, p_idx, p_owner, p_amount)
            ON CONFLICT (run_id, node, idx) DO UPDATE SET amount = excluded.amount WHERE h.price IS NULL;
        ELSIF v_before > 0 THEN
            DELETE FROM credit_holds h
            WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx AND h.price IS NULL;
        ELSE
            RETURN;
        END IF;
        IF NOT FOUND THEN  -- it is being settled, so this attempt is a lost one
            RAISE EXCEPTION 'it is settled' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN;
    END IF;
    first := agentflow_note_crossing(p_owner, 'short');
END $$;

-- p_charge: owner, token, attempt, node_id, block; amount: what the attempt cost; used: what it cost if its run was
-- stopped (it is CANCELLED then); held: something may be held for it; low: see agentflow_post_charges.
-- paid:     what was taken
-- missing:  what the owner lacked of it
-- had:      what they could have spent, if something is missing
CREATE OR REPLACE FUNCTION agentflow_charge(
    p_run uuid, p_node int, p_idx int, p_charge json, p_landed boolean, OUT paid bigint, OUT missing bigint, OUT had bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_owner uuid := p_charge ->> 'owner';
    v_price bigint := coalesce((p_charge ->> CASE WHEN p_landed THEN 'amount' ELSE 'used' END)::bigint, 0);
    v_low bigint := p_charge ->> 'low';
    v_held bigint := 0;
    v credit_balances;
BEGIN
    IF p_charge -> 'held' IS NOT NULL AND EXISTS (
        SELECT FROM credit_holds h
        WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx AND h.price IS NULL AND h.amount >= v_price
    ) THEN
        UPDATE credit_holds h SET price = v_price, token = (p_charge ->> 'token')::uuid, settled_at = agentflow_now(),
            attempt = (p_charge ->> 'attempt')::int, node_id = p_charge ->> 'node_id', block = p_charge ->> 'block'
        WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx AND h.price IS NULL AND h.amount >= v_price;
        IF FOUND THEN
            paid := v_price;
            missing := 0;
            RETURN;
        END IF;
        -- A lost attempt has just changed it, and PostgreSQL keeps the row locked, although nothing was updated.
        RAISE EXCEPTION 'what is held back has changed' USING ERRCODE = 'serialization_failure';  -- the call is made again
    END IF;
    IF v_price = 0 THEN
        paid := 0;
        missing := 0;
        RETURN;
    END IF;
    v := agentflow_post_charges(v_owner, v_low);
    IF p_charge -> 'held' IS NOT NULL THEN
        DELETE FROM credit_holds h
        WHERE h.run_id = p_run AND h.node = p_node AND h.idx = p_idx AND h.price IS NULL RETURNING h.amount INTO v_held;
        v_held := coalesce(v_held, 0);
    END IF;
    had := v.balance - v.held + v_held;
    paid := least(v_price, had);
    missing := v_price - paid;
    UPDATE credit_balances b SET balance = v.balance - paid, held = v.held - v_held, last_number = v.last_number + 1,
        day = v.day, spent = v.spent + paid
    WHERE b.owner_id = v_owner;
    INSERT INTO credit_transactions (owner_id, number, type, amount, balance, unpaid, reason, cause,
                                     run_id, node, idx, attempt, node_id, block)
    VALUES (v_owner, v.last_number + 1, 'USAGE', -paid, v.balance - paid, missing, 'used', 'used ' || (p_charge ->> 'token'),
            p_run, p_node, p_idx, (p_charge ->> 'attempt')::int, p_charge ->> 'node_id', p_charge ->> 'block');
    IF paid > 0 AND v.balance - paid < v_low AND v.low_since IS NULL THEN
        PERFORM agentflow_note_crossing(v_owner, 'low');
    END IF;
    IF missing > 0 THEN
        PERFORM agentflow_note_crossing(v_owner, 'short');
    END IF;
END $$;

-- p_low:   the owner is low on credits with fewer than so many; null: nobody ever is
-- Returns the balance, as agentflow_lock_credits does.
CREATE OR REPLACE FUNCTION agentflow_post_charges(p_owner uuid, p_low bigint) RETURNS credit_balances LANGUAGE plpgsql AS $$
DECLARE
    v credit_balances := agentflow_lock_credits(p_owner);
    v_posted record;
BEGIN
    WITH posted AS (
        DELETE FROM credit_holds h WHERE h.owner_id = p_owner AND h.price IS NOT NULL RETURNING h.*
    ), charges AS (
        SELECT p.*, row_number() OVER in_order AS nth, sum(p.price) OVER in_order AS total FROM posted p WHERE p.price > 0
        WINDOW in_order AS (ORDER BY p.settled_at, p.run_id, p.node, p.idx)
    ), added AS (
        INSERT INTO credit_transactions (owner_id, number, at, type, amount, balance, reason, cause,
                                         run_id, node, idx, attempt, node_id, block)
        SELECT p_owner, v.last_number + c.nth, c.settled_at, 'USAGE', -c.price, v.balance - c.total, 'used', 'used ' || c.token,
               c.run_id, c.node, c.idx, c.attempt, c.node_id, c.block
        FROM charges c
    )
    SELECT count(*) AS holds, sum(p.amount) AS held, sum(p.price) AS paid, count(*) FILTER (WHERE p.price > 0) AS added,
           coalesce(sum(p.price) FILTER (WHERE (p.settled_at AT TIME ZONE 'UTC')::date = v.day), 0) AS today
    INTO v_posted FROM posted p;
    IF v_posted.holds = 0 THEN
        RETURN v;
    END IF;
    v.balance := v.balance - v_posted.paid;
    v.held := v.held - v_posted.held;
    v.spent := v.spent + v_posted.today;
    v.last_number := v.last_number + v_posted.added;
    UPDATE credit_balances b SET balance = v.balance, held = v.held, last_number = v.last_number, day = v.day, spent = v.spent
    WHERE b.owner_id = p_owner;
    IF v_posted.paid > 0 AND v.balance < p_low AND v.low_since IS NULL THEN
        PERFORM agentflow_note_crossing(p_owner, 'low');
        v.low_since := agentflow_now();
    END IF;
    RETURN v;
END $$;

-- Those of at most p_owners owners; returns how many. The commit is asynchronous: a server that crashes posts them again.
CREATE OR REPLACE FUNCTION agentflow_post_some(p_owners int, p_low bigint) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_owner uuid;
    v_count int := 0;
BEGIN
    SET LOCAL synchronous_commit = off;
    FOR v_owner IN
        SELECT DISTINCT h.owner_id FROM credit_holds h WHERE h.price IS NOT NULL ORDER BY h.owner_id LIMIT p_owners
    LOOP
        PERFORM agentflow_post_charges(v_owner, p_low);
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;

CREATE OR REPLACE FUNCTION agentflow_note_shortfall(p_run uuid, p_what text) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO run_costs AS c (root_id, cost, shortfall) SELECT r.root_id, 0, p_what FROM runs r WHERE r.id = p_run
    ON CONFLICT (root_id) DO UPDATE SET shortfall = excluded.shortfall
$$;

-- The attempt's run was stopped: its settlement counts nothing but this.
CREATE OR REPLACE FUNCTION agentflow_charge_stopped(p_run uuid, p_node int, p_idx int, p_charge json)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_used bigint := coalesce((p_charge ->> 'used')::bigint, 0);
    v_paid bigint;
BEGIN
    IF v_used > 0 THEN
        INSERT INTO run_costs AS c (root_id, cost) SELECT r.root_id, v_used FROM runs r WHERE r.id = p_run
        ON CONFLICT (root_id) DO UPDATE SET cost = c.cost + excluded.cost;
    END IF;
    SELECT c.paid INTO v_paid FROM agentflow_charge(p_run, p_node, p_idx, p_charge, false) c;
    IF v_used > 0 THEN
        UPDATE node_executions e
        SET stats = agentflow_add_stats(e.stats, jsonb_build_object('cost', v_used, 'charged', v_paid))
        WHERE e.run_id = p_run AND e.node = p_node AND e.idx = p_idx;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION agentflow_note_unpaid(p_run uuid, p_charge json, p_price bigint, p_had bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM agentflow_note_shortfall(p_run, format('%s (%s) cost %s credits, and the balance was %s', p_charge ->> 'block',
                                                   p_charge ->> 'node_id', p_price, p_had));
    UPDATE runs r SET stop_due = 'insufficient_balance' WHERE r.id = p_run AND r.stop_due IS NULL;
END $$;

CREATE OR REPLACE FUNCTION agentflow_is_idle_hold(p_hold credit_holds) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (SELECT FROM node_executions e WHERE e.run_id = p_hold.run_id AND e.node = p_hold.node
                       AND e.idx = p_hold.idx AND e.status IN ('QUEUED', 'RUNNING', 'WAITING'))
$$;

-- A settled one has none. What is left is of node executions that were cancelled while they were to be tried again, or
-- waited, or whose run is gone. At most p_limit; returns how many.
CREATE OR REPLACE FUNCTION agentflow_drop_holds(p_limit int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_owner uuid;
    v record;
    v_count int := 0;
BEGIN
    FOR v_owner IN
        SELECT DISTINCT h.owner_id FROM credit_holds h WHERE h.price IS NULL AND agentflow_is_idle_hold(h) ORDER BY h.owner_id
    LOOP
        EXIT WHEN v_count >= p_limit;
        PERFORM agentflow_lock_credits(v_owner);
        WITH dropped AS (
            DELETE FROM credit_holds h WHERE h.price IS NULL AND (h.run_id, h.node, h.idx) IN (
                SELECT o.run_id, o.node, o.idx FROM credit_holds o
                WHERE o.owner_id = v_owner AND o.price IS NULL AND agentflow_is_idle_hold(o) LIMIT p_limit - v_count)
            RETURNING h.amount
        )
        SELECT count(*)::int AS count, coalesce(sum(d.amount), 0) AS amount INTO v FROM dropped d;
        UPDATE credit_balances b SET held = b.held - v.amount WHERE b.owner_id = v_owner;
        v_count := v_count + v.count;
    END LOOP;
    RETURN v_count;
END $$;
