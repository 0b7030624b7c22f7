"""Names the scope that each operation needs.

An operation that is not in the table is refused to everybody, so that a new one cannot be open by mistake; a test holds
the table against the OpenAPI document.
"""

from typing import Final

from agentflow.accounts.scopes import Scope

NEEDED: Final[dict[str, Scope | None]] = {
    # graphs
    "list_graphs": Scope.GRAPHS_READ,
    "get_graph": Scope.GRAPHS_READ,
    "export_graph": Scope.GRAPHS_READ,
    "list_versions": Scope.GRAPHS_READ,
    "validate_graph": Scope.GRAPHS_READ,
    "show_inputs": Scope.GRAPHS_READ,
    "estimate_graph": Scope.GRAPHS_READ,
    "create_graph": Scope.GRAPHS_WRITE,
    "replace_graph": Scope.GRAPHS_WRITE,
    "delete_graph": Scope.GRAPHS_WRITE,
    # runs
    "list_runs": Scope.RUNS_READ,
    "get_run": Scope.RUNS_READ,
    "explain_run": Scope.RUNS_READ,
    "list_nodes": Scope.RUNS_READ,
    "list_outputs": Scope.RUNS_READ,
    "stream_events": Scope.RUNS_READ,
    "submit_run": Scope.RUNS_WRITE,
    "submit_inline": Scope.RUNS_WRITE,
    "fork_run": Scope.RUNS_WRITE,
    "cancel_run": Scope.RUNS_WRITE,
    "cancel_runs": Scope.RUNS_WRITE,
    "pause_run": Scope.RUNS_WRITE,
    "resume_run": Scope.RUNS_WRITE,
    "retry_run": Scope.RUNS_WRITE,
    "send_signal": Scope.RUNS_WRITE,
    # presets
    "list_presets": Scope.GRAPHS_READ,
    "get_preset": Scope.GRAPHS_READ,
    "create_preset": Scope.GRAPHS_WRITE,
    "change_preset": Scope.GRAPHS_WRITE,
    "delete_preset": Scope.GRAPHS_WRITE,
    "run_preset": Scope.RUNS_WRITE,
    # schedules
    "list_schedules": Scope.SCHEDULES_MANAGE,
    "get_schedule": Scope.SCHEDULES_MANAGE,
    "create_schedule": Scope.SCHEDULES_MANAGE,
    "change_schedule": Scope.SCHEDULES_MANAGE,
    "delete_schedule": Scope.SCHEDULES_MANAGE,
    "pause_schedule": Scope.SCHEDULES_MANAGE,
    "resume_schedule": Scope.SCHEDULES_MANAGE,
    "run_schedule": Scope.SCHEDULES_MANAGE,
    "backfill_schedule": Scope.SCHEDULES_MANAGE,
    "skip_waiting": Scope.SCHEDULES_MANAGE,
    "list_occurrences": Scope.SCHEDULES_MANAGE,
    # triggers
    "list_triggers": Scope.TRIGGERS_MANAGE,
    "get_trigger": Scope.TRIGGERS_MANAGE,
    "create_trigger": Scope.TRIGGERS_MANAGE,
    "change_trigger": Scope.TRIGGERS_MANAGE,
    "delete_trigger": Scope.TRIGGERS_MANAGE,
    "pause_trigger": Scope.TRIGGERS_MANAGE,
    "resume_trigger": Scope.TRIGGERS_MANAGE,
    "rotate_trigger": Scope.TRIGGERS_MANAGE,
    "list_deliveries": Scope.TRIGGERS_MANAGE,
    "get_delivery": Scope.TRIGGERS_MANAGE,
    "redeliver": Scope.TRIGGERS_MANAGE,
    # reviews
    "list_reviews": Scope.RUNS_READ,
    "get_review": Scope.RUNS_READ,
    "approve_review": Scope.REVIEWS_DECIDE,
    "reject_review": Scope.REVIEWS_DECIDE,
    # blocks
    "list_blocks": Scope.GRAPHS_READ,
    "get_block": Scope.GRAPHS_READ,
    "execute_block": Scope.BLOCKS_EXECUTE,
    # notifications
    "list_notifications": Scope.NOTIFICATIONS_MANAGE,
    "get_notification": Scope.NOTIFICATIONS_MANAGE,
    "change_notification": Scope.NOTIFICATIONS_MANAGE,
    "mark_notifications": Scope.NOTIFICATIONS_MANAGE,
    "get_preferences": Scope.NOTIFICATIONS_MANAGE,
    "set_preferences": Scope.NOTIFICATIONS_MANAGE,
    "list_channels": Scope.NOTIFICATIONS_MANAGE,
    "get_channel": Scope.NOTIFICATIONS_MANAGE,
    "create_channel": Scope.NOTIFICATIONS_MANAGE,
    "change_channel": Scope.NOTIFICATIONS_MANAGE,
    "delete_channel": Scope.NOTIFICATIONS_MANAGE,
    "rotate_channel": Scope.NOTIFICATIONS_MANAGE,
    "test_channel": Scope.NOTIFICATIONS_MANAGE,
    "list_letters": Scope.ADMIN,
    "replay_letters": Scope.ADMIN,
    "drop_letters": Scope.ADMIN,
    # moderation
    "list_refusals": Scope.ADMIN,
    # credentials
    "list_providers": Scope.CREDENTIALS_MANAGE,
    "list_credentials": Scope.CREDENTIALS_MANAGE,
    "create_credential": Scope.CREDENTIALS_MANAGE,
    "get_credential": Scope.CREDENTIALS_MANAGE,
    "change_credential": Scope.CREDENTIALS_MANAGE,
    "delete_credential": Scope.CREDENTIALS_MANAGE,
    "test_credential": Scope.CREDENTIALS_MANAGE,
    "begin_login": Scope.CREDENTIALS_MANAGE,
    "end_login": Scope.CREDENTIALS_MANAGE,
    "create_client": Scope.CREDENTIALS_MANAGE,
    # accounts
    "me": None,
    "change_me": None,
    "list_audit": None,
    "list_keys": Scope.KEYS_MANAGE,
    "create_key": Scope.KEYS_MANAGE,
    "change_key": Scope.KEYS_MANAGE,
    "revoke_key": Scope.KEYS_MANAGE,
    "list_users": Scope.ADMIN,
    "create_user": Scope.ADMIN,
    "get_user": Scope.ADMIN,
    "change_user": Scope.ADMIN,
    "delete_user": Scope.ADMIN,
    "set_password": Scope.ADMIN,
    "link_user": Scope.ADMIN,
    # sessions
    "change_password": None,
    "list_sessions": None,
    "end_session": None,
    "end_current_session": None,
    # credits
    "get_credits": Scope.CREDITS_READ,
    "list_transactions": Scope.CREDITS_READ,
    "grant_credits": Scope.ADMIN,
    "set_credit_limit": Scope.ADMIN,
}
"""Operation → the scope that the caller needs; None: a valid key or session is enough."""

OPEN: Final = frozenset({"sign_in", "begin_oidc", "end_oidc", "return_from_login", "show_unsubscribe", "unsubscribe"})
"""Operations of the API that need neither, because they give a session, or do nothing without one. They are throttled
by address."""

SIGNED: Final = frozenset({"top_up_credits"})
"""Operations that need neither, because what is sent is signed with a secret of the operator's."""
