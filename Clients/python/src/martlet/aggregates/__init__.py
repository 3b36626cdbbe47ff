"""Event sourcing: aggregates that are built from their events and decide what happens next.

`tenant.repository(Order)` loads aggregates of a class and carries out commands on them; `given(Order, …)` tests them
without a server.
"""

from ._aggregate import Aggregate, AggregateNotFound, Executed, Loaded
from ._program import RepositoryFigures, Target, caused_by
from ._repository import AsyncRepository, Repository, execute_together, execute_together_async
from ._scenario import Given, ScenarioFailure, given, stored
from ._schema import EventUndecodable, SchemaError, event

__all__ = [
    "Aggregate",
    "AggregateNotFound",
    "AsyncRepository",
    "EventUndecodable",
    "Executed",
    "Given",
    "Loaded",
    "Repository",
    "RepositoryFigures",
    "ScenarioFailure",
    "SchemaError",
    "Target",
    "caused_by",
    "event",
    "execute_together",
    "execute_together_async",
    "given",
    "stored",
]
