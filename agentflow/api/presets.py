"""Serves `/api/v1/presets`: saved inputs of graphs."""

from uuid import UUID

from flask import Response, url_for
from pydantic import BaseModel
from sqlalchemy.orm import Session

from agentflow.api import audit
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.given import changed_given, given_of, shown_values
from agentflow.api.replies import reply
from agentflow.api.runs import accepted_reply, idempotency_key, wanted_of
from agentflow.presets import service as presets
from agentflow.presets.schemas import ChangePreset, NewPreset, PresetList, PresetListQuery, PresetView
from agentflow.presets.service import Draft, Given
from agentflow.presets.tables import Preset
from agentflow.schemas.runs import RunAccepted, RunPreset, RunView, WaitQuery
from agentflow.services.cursors import PageRequest
from agentflow.services.transaction import transaction

api = blueprint("presets", "Saved inputs of graphs, to run them with.")


class PresetPath(BaseModel):
    """Which preset."""

    preset_id: UUID


@api.post("/presets", responses={201: PresetView})
def create_preset(body: NewPreset) -> Response:
    """Save what a graph is to be run with."""
    with transaction() as session:
        made = presets.create(session, owner_id(), Draft(body.graph_id, body.version, body.name, given_of(body)))
        audit.made(made.id)
        view = _view(session, made)
    response = reply(view, 201)
    response.headers["Location"] = url_for("presets.get_preset", preset_id=view.id)
    return response


@api.get("/presets", responses={200: PresetList})
def list_presets(query: PresetListQuery) -> Response:
    """List presets, the newest first."""
    with transaction() as session:
        found, more = presets.page(session, owner_id(), query.graph_id, PageRequest(query.after, query.limit))
        return reply(PresetList(items=[_view(session, one) for one in found], next_cursor=more))


@api.get("/presets/<uuid:preset_id>", responses={200: PresetView})
def get_preset(path: PresetPath) -> Response:
    """A preset."""
    with transaction() as session:
        return reply(_view(session, presets.get(session, owner_id(), path.preset_id)))


@api.patch("/presets/<uuid:preset_id>", responses={200: PresetView})
def change_preset(path: PresetPath, body: ChangePreset) -> Response:
    """Change a preset. What is left out stays, and a secret that is sent as it is shown; runs go on as they began."""
    with transaction() as session:
        preset = presets.get(session, owner_id(), path.preset_id, lock=True)
        return reply(
            _view(session, presets.change(session, owner_id(), path.preset_id, _changed(session, preset, body)))
        )


@api.delete("/presets/<uuid:preset_id>", responses={204: None})
def delete_preset(path: PresetPath) -> Response:
    """Delete a preset. Its runs stay."""
    with transaction() as session:
        presets.delete(session, owner_id(), path.preset_id)
    return Response(status=204)


@api.post("/presets/<uuid:preset_id>/runs", responses={200: RunView, 202: RunAccepted})
def run_preset(path: PresetPath, query: WaitQuery, body: RunPreset) -> Response:
    """Run a preset. What the body gives is laid over it, name by name.

    With an `Idempotency-Key` header, sending the same again gives the same run; another body with it is a 422.
    """
    with transaction() as session:
        accepted = presets.run(session, owner_id(), path.preset_id, wanted_of(body), idempotency_key())
        audit.made(accepted.run_id)
    return accepted_reply(accepted, query.wait)


def _changed(session: Session, preset: Preset, body: ChangePreset) -> Draft:
    """The preset with what the body gives. For a version and a priority, null is a value."""
    return Draft(
        preset.graph_id,
        body.version if "version" in body.model_fields_set else preset.version,
        preset.name if body.name is None else body.name,
        changed_given(Given.read(preset.given), presets.shown(session, preset), body),
    )


def _view(session: Session, preset: Preset) -> PresetView:
    return PresetView(
        id=preset.id,
        graph_id=preset.graph_id,
        name=preset.name,
        created_at=preset.created_at,
        updated_at=preset.updated_at,
        **shown_values(presets.shown(session, preset), preset.version),
    )
