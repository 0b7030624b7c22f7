"""A page holds no more than some megabytes, and every row is on one page."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from agentflow import pages
from agentflow.ids import new_id
from agentflow.pages import PAGE_BYTES
from agentflow.presets.tables import Preset
from agentflow.services.transaction import transaction

SIZES = st.lists(st.sampled_from([2, 1_000, PAGE_BYTES // 3, PAGE_BYTES - 1, PAGE_BYTES + 5]), max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES, limit=st.integers(1, 13))
def test_each_row_is_on_one_page_and_no_page_of_several_is_too_large(api, push, sizes, limit):
    graph_id, owner_id = push(), api.get("/api/v1/me").json["user"]["id"]
    ids = [new_id() for _ in sizes]
    with transaction() as session:
        session.execute(delete(Preset))
        for id_, size in zip(ids, sizes, strict=True):
            session.add(Preset(id=id_, owner_id=owner_id, graph_id=graph_id, name="n", given="x" * size))
    found, after = [], None
    while True:
        with transaction() as session:
            query = select(Preset.id, Preset.given).order_by(Preset.id)
            rows, more = pages.page(
                session, query if after is None else query.where(Preset.id > after), limit, Preset.given
            )
        assert len(rows) <= limit
        assert len(rows) == 1 or sum(len(given) for _, given in rows) <= PAGE_BYTES
        found += [id_ for id_, _ in rows]
        if not more:
            break
        after = found[-1]
    assert found == ids
