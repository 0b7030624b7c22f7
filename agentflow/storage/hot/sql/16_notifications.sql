-- The outbox of notifications: a row is written in the transaction that causes it, or not at all. What is to be sent, and
-- where, is decided later (notifications/planning.py), so that a cause costs one insert.
--
-- agentflow_new_id            a time-ordered id, as ids.py makes them
-- agentflow_id_at             the least id of a time
-- agentflow_note              a user is told something, once for each cause
-- agentflow_note_admins       all admins are
-- agentflow_note_end          a run has ended
-- agentflow_note_expiring     owners of credentials that expire soon are told
-- agentflow_claim_channel     a worker gets the next message of a channel, and nobody else sends over it meanwhile
-- agentflow_message_sent      what it got is sent
-- agentflow_message_failed    … or failed: to be tried again, or dead
-- agentflow_channel_next      when a worker is to be called for a channel again

CREATE OR REPLACE FUNCTION agentflow_new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    -- UUIDv7: milliseconds since 1970, the version, the rest of the microseconds in twelve bits, and chance.
    SELECT (lpad(to_hex(t.us / 1000), 12, '0') || '7' || lpad(to_hex(t.us % 1000 * 4096 / 1000), 3, '0')
        || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid
    FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us) t
$$;

-- The least id of a time: ids above it were made later.
CREATE OR REPLACE FUNCTION agentflow_id_at(p_at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Returns its id; null if it was noted before, or the user is being deleted.
CREATE OR REPLACE FUNCTION agentflow_note(p_owner uuid, p_kind text, p_cause text, p_data jsonb)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid;
    v_now timestamptz := agentflow_now();
BEGIN
    INSERT INTO notifications (id, owner_id, kind, cause, data, created_at, plan_at)
    SELECT agentflow_new_id(), p_owner, p_kind, p_cause, p_data, v_now, v_now FROM users u
    WHERE u.id = p_owner AND u.deleting_at IS NULL
    ON CONFLICT (owner_id, cause) DO NOTHING RETURNING id INTO v_id;
    RETURN v_id;
END $$;

-- Returns how many were told.
CREATE OR REPLACE FUNCTION agentflow_note_admins(p_kind text, p_cause text, p_data jsonb) RETURNS int LANGUAGE sql AS $$
    SELECT count(agentflow_note(u.id, p_kind, p_cause, p_data))::int FROM users u
    WHERE u.role = 'admin' AND u.suspended_at IS NULL AND u.deleting_at IS NULL
$$;

-- A run that was retried has another end: its cause has the number of the retry.
CREATE OR REPLACE FUNCTION agentflow_note_end(p_run uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM agentflow_note(r.owner_id, CASE r.status WHEN 'FAILED' THEN 'run_failed' ELSE 'run_finished' END,
        format('run-%s:%s:%s', CASE r.status WHEN 'FAILED' THEN 'failed' ELSE 'finished' END, r.id, r.retry_no),
        jsonb_build_object('run', r.id, 'graph', r.graph_id, 'graph_name', left(g.name, 200), 'status', r.status,
            'reason', r.reason, 'error', left(r.error, 500), 'seconds', r.stats -> 'duration', 'cost', r.stats -> 'cost',
            'node_count', r.stats -> 'node_count', 'started_at', r.started_at, 'ended_at', r.ended_at)
            || CASE WHEN r.labels ->> 'notify' = 'at_once' THEN '{"at_once": true}' ELSE '{}' END::jsonb)
    FROM runs r JOIN graphs g ON g.id = r.graph_id WHERE r.id = p_run;
END $$;

-- Null: nothing waits for it. Before `open_at` nothing is sent over it.
CREATE OR REPLACE FUNCTION agentflow_channel_next(p_channel uuid, p_open_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT greatest(min(d.due_at), p_open_at) FROM notification_deliveries d
    WHERE d.channel_id = p_channel AND d.state IN ('WAITING', 'SENDING') HAVING min(d.due_at) IS NOT NULL
$$;

-- The lease is on the channel: over each only one worker sends, so that a dead one holds up one worker at most, and its
-- messages are in order. `p_per_host` and `p_per_owner` bound how many channels are served at once that lead to one host, or
-- belong to one user: they are counted under locks, the host's before the owner's, so that the bounds are exact.
--
-- verdict: claimed   `notifications` go into one message
--          busy      somebody sends over it
--          closed    it failed lately, is off, or its owner is suspended
--          full      too many like it are being served: somebody is called again for it soon
--          nothing   nothing is due
--          gone      there is no such channel
CREATE OR REPLACE FUNCTION agentflow_claim_channel(
    p_channel uuid, p_token uuid, p_lease float8, p_per_host int, p_per_owner int, p_most int, p_attempts int,
    OUT verdict text, OUT notifications uuid[], OUT attempt int, OUT failures int
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v notification_channels;
    v_first record;
    v_now timestamptz;
    v_away boolean;
BEGIN
    SELECT c.* INTO v FROM notification_channels c WHERE c.id = p_channel FOR NO KEY UPDATE;
    v_now := agentflow_now();
    IF NOT FOUND THEN
        verdict := 'gone';
        RETURN;
    ELSIF v.lease_until > v_now THEN
        verdict := 'busy';
        RETURN;
    END IF;
    IF v.token IS NOT NULL THEN  -- its worker died: nobody knows whether the message arrived, so it is sent again
        UPDATE notification_deliveries d SET state = 'WAITING', token = NULL, error = 'its worker was lost'
        WHERE d.channel_id = p_channel AND d.state = 'SENDING';
        UPDATE notification_channels c SET token = NULL, lease_until = NULL WHERE c.id = p_channel;
    END IF;
    SELECT u.suspended_at IS NOT NULL OR u.deleting_at IS NOT NULL INTO v_away FROM users u WHERE u.id = v.owner_id;
    IF NOT v.enabled OR v_away OR v.open_at > v_now THEN
        verdict := 'closed';
        UPDATE notification_channels c SET next_at = CASE WHEN NOT v.enabled THEN NULL
            WHEN v_away THEN v_now + interval '10 minutes' ELSE agentflow_channel_next(p_channel, v.open_at) END
        WHERE c.id = p_channel;
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('notification host ' || v.host, 0));
    PERFORM pg_advisory_xact_lock(hashtextextended('notification owner ' || v.owner_id, 0));
    v_now := agentflow_now();
    IF (SELECT count(*) FROM notification_channels c WHERE c.host = v.host AND c.token IS NOT NULL AND c.lease_until > v_now)
            >= p_per_host
       OR (SELECT count(*) FROM notification_channels c WHERE c.owner_id = v.owner_id AND c.token IS NOT NULL
           AND c.lease_until > v_now) >= p_per_owner THEN
        verdict := 'full';
        UPDATE notification_channels c SET next_at = v_now + make_interval(secs => 1 + random()) WHERE c.id = p_channel;
        RETURN;
    END IF;
    UPDATE notification_deliveries d SET state = 'DEAD', dead_at = v_now, error = coalesce(d.error, v.error, 'it was not sent in time')
    WHERE d.channel_id = p_channel AND d.state = 'WAITING' AND d.due_at <= v_now
      AND (d.attempts >= p_attempts OR (d.give_up_at <= v_now AND (d.attempts > 0 OR v.failures > 0)));
    SELECT d.notification_id, d.batch INTO v_first FROM notification_deliveries d
    WHERE d.channel_id = p_channel AND d.state = 'WAITING' AND d.due_at <= v_now ORDER BY d.due_at, d.notification_id LIMIT 1;
    IF NOT FOUND THEN
        verdict := 'nothing';
        UPDATE notification_channels c SET next_at = agentflow_channel_next(p_channel, NULL) WHERE c.id = p_channel;
        RETURN;
    END IF;
    WITH taken AS (
        UPDATE notification_deliveries d SET state = 'SENDING', token = p_token, attempts = d.attempts + 1
        WHERE d.channel_id = p_channel AND d.notification_id IN (
            SELECT o.notification_id FROM notification_deliveries o
            WHERE o.channel_id = p_channel AND o.state = 'WAITING' AND o.due_at <= v_now
              AND (o.notification_id = v_first.notification_id OR o.batch = v_first.batch)
            ORDER BY o.due_at, o.notification_id LIMIT p_most)
        RETURNING d.notification_id, d.attempts
    )
    SELECT array_agg(t.notification_id ORDER BY t.notification_id), max(t.attempts) INTO notifications, attempt FROM taken t;
    UPDATE notification_channels c SET token = p_token, lease_until = v_now + make_interval(secs => p_lease),
        next_at = v_now + make_interval(secs => p_lease)
    WHERE c.id = p_channel;
    verdict := 'claimed';
    failures := v.failures;
END $$;

-- Returns how many were marked: 0, if the lease was lost meanwhile (and the message may be sent again).
CREATE OR REPLACE FUNCTION agentflow_message_sent(p_channel uuid, p_token uuid) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_count int;
BEGIN
    PERFORM FROM notification_channels c WHERE c.id = p_channel AND c.token = p_token FOR NO KEY UPDATE;
    UPDATE notification_deliveries d SET state = 'SENT', token = NULL, sent_at = agentflow_now(), error = NULL
    WHERE d.channel_id = p_channel AND d.state = 'SENDING' AND d.token = p_token;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    UPDATE notification_channels c SET token = NULL, lease_until = NULL, failures = 0, open_at = NULL, error = NULL,
        sent_at = agentflow_now(), next_at = agentflow_channel_next(p_channel, NULL)
    WHERE c.id = p_channel AND c.token = p_token;
    RETURN v_count;
END $$;

-- p_dead     it failed for good: no retry can help, and the channel itself is sound
-- p_again    seconds until it is tried again; p_closed: until anything is sent over the channel again
-- p_attempts beyond so many it is dead, too
-- Returns how many are dead now.
CREATE OR REPLACE FUNCTION agentflow_message_failed(
    p_channel uuid, p_token uuid, p_error text, p_dead boolean, p_again float8, p_closed float8, p_attempts int
) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := agentflow_now();
    v_count int;
BEGIN
    PERFORM FROM notification_channels c WHERE c.id = p_channel AND c.token = p_token FOR NO KEY UPDATE;
    WITH failed AS (
        UPDATE notification_deliveries d SET token = NULL, error = p_error,
            due_at = v_now + make_interval(secs => p_again),
            state = CASE WHEN p_dead OR d.attempts >= p_attempts OR d.give_up_at <= v_now THEN 'DEAD' ELSE 'WAITING' END,
            dead_at = CASE WHEN p_dead OR d.attempts >= p_attempts OR d.give_up_at <= v_now THEN v_now END
        WHERE d.channel_id = p_channel AND d.state = 'SENDING' AND d.token = p_token RETURNING d.state
    )
    SELECT count(*) FILTER (WHERE f.state = 'DEAD') INTO v_count FROM failed f;
    UPDATE notification_channels c SET token = NULL, lease_until = NULL, error = p_error,
        failures = c.failures + CASE WHEN p_dead THEN 0 ELSE 1 END,
        open_at = CASE WHEN NOT p_dead THEN v_now + make_interval(secs => p_closed) END,
        next_at = agentflow_channel_next(p_channel, CASE WHEN NOT p_dead THEN v_now + make_interval(secs => p_closed) END)
    WHERE c.id = p_channel AND c.token = p_token;
    RETURN v_count;
END $$;

-- Tells owners of credentials that expire within so many days, once for each expiry. At most p_limit; returns how many.
-- A token that is renewed by itself is none of them: its `expires_at` is the end of the credential.
CREATE OR REPLACE FUNCTION agentflow_note_expiring(p_days int, p_limit int) RETURNS int LANGUAGE sql AS $$
    SELECT count(agentflow_note(e.owner_id, 'credential_needs_you', e.cause, jsonb_build_object(
        'credential', e.id, 'provider', e.provider, 'title', e.title, 'why', 'expires', 'expires_at', e.expires_at)))::int
    FROM (
        SELECT c.*, format('credential-expires:%s:%s', c.id, extract(epoch FROM c.expires_at)::bigint) AS cause
        FROM credentials c JOIN users u ON u.id = c.owner_id AND u.deleting_at IS NULL
        WHERE c.expires_at BETWEEN agentflow_now() AND agentflow_now() + make_interval(days => p_days)
          AND NOT EXISTS (SELECT FROM notifications n WHERE n.owner_id = c.owner_id AND n.cause
                          = format('credential-expires:%s:%s', c.id, extract(epoch FROM c.expires_at)::bigint))
        LIMIT p_limit
    ) e
    $$;
