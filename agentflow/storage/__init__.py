"""Reads and writes PostgreSQL, which holds the truth about every run.

`tables.py` defines the tables. Plain queries are SQLAlchemy; hot or locking statements are functions of the database in
`hot/sql/*.sql`, called from `hot/node_executions.py`. Nothing here knows HTTP or Celery.
"""
