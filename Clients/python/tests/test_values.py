"""What needs no server: keys, payloads, settings, errors."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from datetime import datetime, timezone

import pytest
from google.protobuf import any_pb2, duration_pb2
from servers import REPOSITORY

import martlet
from martlet import errors, requests
from martlet.settings import read_settings
from martlet.times import from_micros, to_micros
from martlet.v1 import status_pb2

KEYS = json.loads((REPOSITORY / "Tests" / "Interop" / "keys.json").read_text())


def test_ids_of_keys_are_those_of_every_client() -> None:
    for each in KEYS["keys"]:
        assert martlet.aggregate_id(uuid.UUID(each["tenant"]), each["type"], each["key"]) == uuid.UUID(each["id"])


@pytest.mark.parametrize("invalid", [each["key"] for each in KEYS["invalid_keys"]] + ["\ud800"])
def test_invalid_keys_are_refused(invalid: str) -> None:
    with pytest.raises(ValueError):
        martlet.aggregate_id(uuid.uuid4(), "order", invalid)


def test_new_ids_are_ordered_uuids_of_version_7() -> None:
    ids = [martlet.new_id() for _ in range(1_000)]
    assert {each.version for each in ids} == {7}
    assert {each.variant for each in ids} == {uuid.RFC_4122}
    assert len(set(ids)) == 1_000
    assert abs((ids[0].int >> 80) / 1000 - datetime.now().timestamp()) < 10


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Placed:
    amount: float
    colour: Colour
    at: datetime
    nested: list[uuid.UUID]


def test_payloads_are_encoded_when_an_event_is_made() -> None:
    content = {"a": [1]}
    event = martlet.NewEvent("E", content)
    content["a"].append(2)
    assert event.body == b'{"a":[1]}'
    assert martlet.NewEvent("E").body == b"{}"
    assert martlet.NewEvent("E", None).body == b"null"
    assert martlet.NewEvent("E", b"\x00").body == b"\x00"
    assert martlet.NewEvent("E", '{"as": "is"}').body == b'{"as": "is"}'
    moment = datetime(2026, 1, 2, tzinfo=timezone.utc)
    placed = martlet.NewEvent("E", Placed(1.5, Colour.RED, moment, [uuid.UUID(int=1)]))
    assert json.loads(placed.body) == {
        "amount": 1.5,
        "colour": "red",
        "at": "2026-01-02T00:00:00+00:00",
        "nested": ["00000000-0000-0000-0000-000000000001"],
    }
    with pytest.raises(TypeError):
        martlet.NewEvent("E", object())
    with pytest.raises(ValueError):
        martlet.NewEvent("E", float("nan"))


def test_times_keep_their_microseconds() -> None:
    for micros in (0, 1, 1_767_225_600_000_001, -1, 253_402_300_799_999_999):
        assert to_micros(from_micros(micros)) == micros
    assert from_micros(2**63 - 1).year == 9999
    with pytest.raises(ValueError):
        to_micros(datetime(2026, 1, 1))


def test_settings_come_from_keywords_and_the_environment(tmp_path: object) -> None:
    environment = {"MARTLET_SERVER": "a:1, b:2", "MARTLET_TENANT": "11111111-1111-4111-8111-111111111111"}
    settings = read_settings(environment=environment)
    assert settings.servers == ("a:1", "b:2")
    assert settings.tenant == uuid.UUID("11111111-1111-4111-8111-111111111111")
    assert read_settings("[::1]:7311", environment=environment).servers == ("[::1]:7311",)
    assert read_settings(environment={}).servers == ("127.0.0.1:7311",)
    for wrong in ("a", "a:b", ":1", " , "):
        with pytest.raises(ValueError):
            read_settings(wrong, environment={})
    with pytest.raises(ValueError, match="not a UUID"):
        read_settings(tenant="x", environment={})
    with pytest.raises(ValueError, match="MARTLET_TENANT"):
        martlet.Client(read_settings(environment={})).tenant()
    with pytest.raises(ValueError, match="both"):
        read_settings(cert=__file__, environment={})


def test_an_expected_version_is_required_and_checked() -> None:
    handle = martlet.Client(read_settings(environment={})).tenant(uuid.uuid4()).aggregate("order", key="1")
    with pytest.raises(TypeError):
        handle.change([martlet.NewEvent("E")])  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        handle.change([martlet.NewEvent("E")], expecting=True)
    with pytest.raises(ValueError):
        requests.expected(-1)
    with pytest.raises(ValueError):
        handle.tenant.aggregate("order")


def test_error_details_are_read_from_the_trailers() -> None:
    status = status_pb2.CallStatus(code=8, reason="APPEND_QUEUE_FULL", message="wait", retryable=True)
    duration = duration_pb2.Duration(nanos=250_000_000).SerializeToString()
    details = b""
    for name, value in (
        ("martlet.v1.CallStatus", status.SerializeToString()),
        ("google.rpc.RetryInfo", b"\x0a" + bytes([len(duration)]) + duration),
    ):
        encoded = any_pb2.Any(type_url=f"type.googleapis.com/{name}", value=value).SerializeToString()
        details += b"\x1a" + bytes([len(encoded)]) + encoded
    read = errors.Details([("other", "x"), ("grpc-status-details-bin", b"\x08\x08\x12\x04wait" + details)])
    assert read.status == status
    assert read.retry_after == 0.25
    error = errors.of_status(status, read.retry_after)
    assert isinstance(error, martlet.ResourceExhausted)
    assert (error.reason, error.retryable, error.retry_after) == ("APPEND_QUEUE_FULL", True, 0.25)
    # What is cut short says nothing, and breaks nothing.
    for length in range(len(details)):
        errors.Details([("grpc-status-details-bin", details[:length])])
