"""Ids of aggregates that are named by a string key, and new ids of events."""

from __future__ import annotations

import os
import time
import unicodedata
import uuid

KEY_BYTES_MAX = 512

#: The tag in which an event that was appended by key carries the key.
KEY_TAG = "aggregate_key"


def check_key(key: str) -> str:
    """The key itself; ValueError unless it is 1 to 512 bytes of UTF-8 without control characters."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the key {key!r} is not valid Unicode") from error
    if not 1 <= len(encoded) <= KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes of UTF-8; this one has {len(encoded)}")
    if any(unicodedata.category(character) == "Cc" for character in key):
        raise ValueError(f"the key {key!r} has a control character")
    return key


def aggregate_id(tenant: uuid.UUID, aggregate_type: str, key: str) -> uuid.UUID:
    """The id of the aggregate with that key: the UUIDv5 in the namespace of the tenant over type, a byte 0, and key.

    The same in every client of Martlet and in its command line. ValueError for a key that is not allowed.
    """
    name = aggregate_type.encode() + b"\0" + check_key(key).encode()
    # uuid.uuid5 takes bytes only from Python 3.12 on; both parts are valid UTF-8, so the text is the same.
    return uuid.uuid5(tenant, name.decode())


def new_id() -> uuid.UUID:
    """A new UUIDv7: milliseconds since 1970, then 74 random bits. Ids that grow keep the index of the store cheap."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)
