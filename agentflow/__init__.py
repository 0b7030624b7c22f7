"""AgentFlow runs agent graphs on Celery.

Start reading at ARCHITECTURE.md; the path of a run is `api/runs.py` → `services/submissions.py` → `dispatch/` →
`worker/execute.py` → `storage/hot/sql/` → `worker/finalise.py`.
"""

__version__ = "0.1.0"
