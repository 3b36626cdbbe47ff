"""Projections: read models in your own database, computed from events, each event exactly once."""

from ..workers import Delivery, Park, Retry, StopSlot
from ._database import Database, PostgreSQL, Session, SQLite, TransactionEnded
from ._runner import Projection
from ._timer import StuckHandler

__all__ = [
    "Database",
    "Delivery",
    "Park",
    "PostgreSQL",
    "Projection",
    "Retry",
    "SQLite",
    "Session",
    "StopSlot",
    "StuckHandler",
    "TransactionEnded",
]
