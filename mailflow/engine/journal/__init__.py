"""The one place with durable state: schema and every statement live in this room."""

from mailflow.engine.journal import arrivals, bodies, owners, plans
from mailflow.engine.journal.arrivals import Arrival, Known, Lane, SourceState
from mailflow.engine.journal.database import Database
from mailflow.engine.journal.plans import (
    ConflictError,
    Copy,
    Effects,
    Job,
    Notice,
    Remembered,
    Row,
    Told,
    Waiting,
)

__all__ = [
    "Arrival",
    "ConflictError",
    "Copy",
    "Database",
    "Effects",
    "Job",
    "Known",
    "Lane",
    "Notice",
    "Remembered",
    "Row",
    "SourceState",
    "Told",
    "Waiting",
    "arrivals",
    "bodies",
    "owners",
    "plans",
]
