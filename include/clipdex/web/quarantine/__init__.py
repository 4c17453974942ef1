"""Quarantine: the clips without a caption, and what a person does about them.

page.py   /quarantine, /quarantine.csv, /api/quarantine
repair.py /requeues/NAME; the forms that requeue clips, or mark them "never again"
"""

from clipdex.web.quarantine import page, repair

ROUTERS = (page.router, repair.router)
WRITES = (repair.writes,)
"""Only where operations.py starts runs."""
