"""Makes the messages of a consumer's calls and reads their answers: pure, shared by both clients."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime

from .. import answers, requests
from ..model import Filter
from ..times import from_micros, to_micros
from ..v1 import consumer_pb2, event_pb2
from ._model import FIRST, BlockedKey, ConsumerState, Definition, SlotState, Start

BLOCKED_KEYS_PAGE = 100
LOWEST_LEASE_SECONDS = 0.1

_SETTINGS = ("window_events_max", "in_flight_max", "blocked_keys_max", "retried_keys_max", "tries_max")
_TIMES = {"ack_timeout": "ack_timeout_millis", "backoff_min": "backoff_min_millis", "backoff_max": "backoff_max_millis"}
_TAG = "tag:"


def definition(of: Definition) -> consumer_pb2.ConsumerDefinition:
    settings = consumer_pb2.SlotSettings()
    for name in _SETTINGS:
        value = getattr(of, name)
        if value is not None:
            setattr(settings, name, value)
    for name, field in _TIMES.items():
        seconds = getattr(of, name)
        if seconds is not None:
            setattr(settings, field, round(seconds * 1_000))
    message = consumer_pb2.ConsumerDefinition(
        filter=requests.event_filter(of.filter),
        slots=of.slots or 0,
        raw=of.raw,
        paused=of.paused,
        delivery=settings,
    )
    if of.key.startswith(_TAG):
        message.tag = of.key[len(_TAG) :]
    elif of.key == "aggregate":
        message.aggregate = True
    elif of.key == "aggregate_type":
        message.aggregate_type = True
    else:
        raise ValueError(f"key is 'aggregate', 'aggregate_type' or 'tag:' and a name, not {of.key!r}")
    return message


def read_definition(message: consumer_pb2.ConsumerDefinition) -> Definition:
    kind = message.WhichOneof("key")
    which = message.filter if message.HasField("filter") else None
    return Definition(
        filter=_read_filter(which) if which is not None and which.ByteSize() else None,
        key=_TAG + message.tag if kind == "tag" else kind or "aggregate",
        slots=message.slots,
        raw=message.raw,
        paused=message.paused,
        **{name: getattr(message.delivery, name) for name in _SETTINGS},
        **{name: getattr(message.delivery, field) / 1_000 for name, field in _TIMES.items()},
    )


def _read_filter(message: event_pb2.EventFilter) -> Filter:
    return Filter(
        aggregate_types=tuple(message.aggregate_types),
        event_types=tuple(message.event_types),
        aggregate_ids=tuple(uuid.UUID(bytes=each) for each in message.aggregate_ids),
    )


def start(at: Start | int | datetime) -> consumer_pb2.ConsumerStart:
    if isinstance(at, datetime):
        return consumer_pb2.ConsumerStart(from_time_micros=to_micros(at))
    if isinstance(at, Start):
        return (
            consumer_pb2.ConsumerStart(after_position=0) if at is FIRST else consumer_pb2.ConsumerStart(from_head=True)
        )
    return consumer_pb2.ConsumerStart(after_position=at)


def put(
    tenant: uuid.UUID, name: str, of: Definition, at: Start | int | datetime, replace: bool | int
) -> consumer_pb2.PutConsumerRequest:
    request = consumer_pb2.PutConsumerRequest(
        tenant=tenant.bytes, consumer=name, definition=definition(of), start=start(at)
    )
    if replace is True:
        request.any = True
    elif replace is False:
        request.none = True
    else:
        request.revision = replace
    return request


def state(message: consumer_pb2.GetConsumerResponse) -> ConsumerState:
    return ConsumerState(
        name=message.consumer,
        definition=read_definition(message.definition),
        revision=message.revision,
        head=answers.head(message.head),
        position=message.checkpoint.position,
        settled_to=message.settled_to_position,
        blocked_keys=message.blocked_keys,
        workers=tuple(message.workers),
        slots=tuple(SlotState(each.slot, each.epoch, each.checkpoint.position, each.worker) for each in message.slots),
    )


def blocked_key(message: consumer_pb2.BlockedKey) -> BlockedKey:
    first = message.first
    return BlockedKey(
        slot=message.place.slot,
        key=message.place.key,
        position=first.position,
        event_id=uuid.UUID(bytes=first.event_id) if first.event_id else None,
        reason=message.reason,
        tries=message.tries,
        since=from_micros(message.since_micros),
        retry_at=None if message.parked else from_micros(message.retry_at_micros),
    )


def list_blocked(
    tenant: uuid.UUID, name: str, after: consumer_pb2.KeyPlace | None
) -> consumer_pb2.ListBlockedKeysRequest:
    return consumer_pb2.ListBlockedKeysRequest(tenant=tenant.bytes, consumer=name, after=after)


def before_slot(slot: int) -> consumer_pb2.KeyPlace | None:
    """The last place before the first one of a slot; None for slot 0."""
    return consumer_pb2.KeyPlace(slot=slot - 1, key=b"\xff" * 256) if slot else None


def unblock(tenant: uuid.UUID, name: str, keys: Iterable[BlockedKey], skip: bool) -> consumer_pb2.UnblockKeysRequest:
    return consumer_pb2.UnblockKeysRequest(
        tenant=tenant.bytes,
        consumer=name,
        keys=[
            consumer_pb2.KeyToUnblock(
                place=consumer_pb2.KeyPlace(slot=each.slot, key=each.key),
                skip_position=each.position if skip else 0,
            )
            for each in keys
        ],
    )


def consume(tenant: uuid.UUID, name: str, worker: str, epoch_above: int, keeps_time: bool) -> consumer_pb2.ConsumeStart:
    return consumer_pb2.ConsumeStart(
        tenant=tenant.bytes, consumer=name, worker=worker, epoch_above=epoch_above, keeps_time=keeps_time
    )
