"""Times on the wire, microseconds since 1970 UTC, as datetimes without loss."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)
_LATEST = datetime.max.replace(tzinfo=timezone.utc)


def from_micros(micros: int) -> datetime:
    """The time in UTC; one that datetime cannot express becomes its earliest or latest."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return _EARLIEST if micros < 0 else _LATEST


def to_micros(time: datetime) -> int:
    """Microseconds since 1970; ValueError for a datetime without a time zone."""
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone; use datetime.now(timezone.utc), for example")
    return (time - EPOCH) // _MICROSECOND
