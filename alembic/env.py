"""Runs the migrations on the connection of `agentflow/storage/migrate.py`, inside its transaction."""

from alembic import context

from agentflow.storage.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    compare_type=True,
    transactional_ddl=True,
)
context.run_migrations()
