"""What is stored in PostgreSQL and how it is read and written: the truth about every run.

`tables.py` says what there is. Plain queries are SQLAlchemy; what is hot or takes locks stands in `sql/*.sql`, as
functions of the database, and is called from `node_executions.py`. Nothing here knows HTTP or Celery.
"""
