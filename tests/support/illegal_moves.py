"""A trigger that refuses every move that the state machine does not have (law 5). All tests run under it.

Generated from `engine.statuses`, so that the code under test and its judge cannot drift apart. Production does without:
the storage functions are few, and a trigger a row would cost as much as they do.
"""

from agentflow.engine.statuses import MOVES, NODE_TERMINAL, RUN_MOVES

_CREATED = "(created)"


def _pairs(moves: list[tuple[str, str]]) -> str:
    return ", ".join(f"('{source}', '{target}')" for source, target in moves)


def trigger() -> str:
    """The SQL that installs it, for a database with the present schema."""
    nodes = _pairs([(move.source or _CREATED, move.target) for move in MOVES])
    runs = _pairs([(move.source or _CREATED, move.target) for move in RUN_MOVES])
    ended = ", ".join(f"'{status}'" for status in sorted(NODE_TERMINAL))
    return f"""
CREATE FUNCTION refuse_illegal_node_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_source text := CASE WHEN TG_OP = 'INSERT' THEN '{_CREATED}' ELSE OLD.status END;
BEGIN
    IF (v_source, NEW.status) NOT IN ({nodes}) THEN
        RAISE EXCEPTION 'illegal move of node execution %/%/%: % → %',
            NEW.run_id, NEW.node, NEW.idx, v_source, NEW.status;
    END IF;
    IF v_source IN ({ended}) AND NOT EXISTS (SELECT FROM runs WHERE id = NEW.run_id AND retry_no > 0) THEN
        RAISE EXCEPTION 'node execution %/%/% has ended, and its run is not retried', NEW.run_id, NEW.node, NEW.idx;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION refuse_illegal_run_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_source text := CASE WHEN TG_OP = 'INSERT' THEN '{_CREATED}' ELSE OLD.status END;
BEGIN
    IF (v_source, NEW.status) NOT IN ({runs}) THEN
        RAISE EXCEPTION 'illegal move of run %: % → %', NEW.id, v_source, NEW.status;
    END IF;
    RETURN NULL;
END $$;

-- After, not before: an upsert that finds its row fires the triggers for inserts too, but only those before.
CREATE TRIGGER created AFTER INSERT ON node_executions FOR EACH ROW EXECUTE FUNCTION refuse_illegal_node_move();
CREATE TRIGGER moved AFTER UPDATE OF status ON node_executions FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION refuse_illegal_node_move();
CREATE TRIGGER created AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION refuse_illegal_run_move();
CREATE TRIGGER moved AFTER UPDATE OF status ON runs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION refuse_illegal_run_move();
"""
