"""Martlet's client for asyncio: the names of the package `martlet`, with await and async for."""

from .client import Client, Stream, connect
from .tenant import AggregateHandle, Schedules, SettingsDocument, Tenant

__all__ = ["AggregateHandle", "Client", "Schedules", "SettingsDocument", "Stream", "Tenant", "connect"]
