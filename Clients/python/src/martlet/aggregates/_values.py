"""Dataclasses as JSON and back: of nested dataclasses, enums, UUIDs, dates, decimals, and the usual containers."""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import functools
import types
import typing
import uuid
from typing import Any


class Undecodable(ValueError):
    """A JSON value does not fit a Python type. The message says where, and what is wrong."""


def to_json(value: Any) -> Any:
    """What `json.dumps` takes: `to_dict()` of what has it, and the fields of a dataclass.

    Dates become ISO 8601, UUIDs and decimals text, bytes base64, sets sorted lists.

    Raises:
        TypeError: the value is of another kind.
    """
    if value is None or isinstance(value, (bool, str, int, float)):
        return value.value if isinstance(value, enum.Enum) else value
    if callable(getattr(value, "to_dict", None)):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return to_json(value.value)
    if isinstance(value, collections.abc.Mapping):
        return {_key(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((to_json(item) for item in value), key=repr)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"a {type(value).__qualname__} cannot be stored as JSON: give it to_dict() and from_dict()")


def _key(key: Any) -> str:
    encoded = to_json(key)
    if isinstance(encoded, bool) or not isinstance(encoded, (str, int)):
        raise TypeError(f"{key!r} cannot be a key in JSON")
    return str(encoded)


def from_json(kind: Any, value: Any, place: str = "") -> Any:
    """A value of that type from what `json.loads` returns. Fields that the type lacks are passed over.

    Args:
        kind: a dataclass, a class with `from_dict()`, or a type as annotations name it.
        value: what `json.loads` returns.
        place: what is read, for messages.

    Raises:
        Undecodable: a field is missing, or a value has another type.
    """
    origin = typing.get_origin(kind)
    if kind is Any or kind is object:
        return value
    if origin is typing.Annotated:
        return from_json(typing.get_args(kind)[0], value, place)
    if origin is typing.Literal:
        if value in typing.get_args(kind):
            return value
        raise _wrong(kind, value, place)
    if origin in (typing.Union, types.UnionType):
        return _union(kind, value, place)
    if origin is not None:
        return _container(kind, origin, value, place)
    if kind is None or kind is type(None):
        if value is not None:
            raise _wrong(kind, value, place)
        return None
    if isinstance(kind, typing.TypeVar):
        return value
    return _plain(kind, value, place)


def _wrong(kind: Any, value: Any, place: str) -> Undecodable:
    name = getattr(kind, "__qualname__", None) or str(kind)
    return Undecodable(f"{place or 'the payload'}: expected {name}, found {_kind_of(value)}")


def _kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return "null" if value is None else "a boolean" if isinstance(value, bool) else names.get(type(value), "a value")


def _union(kind: Any, value: Any, place: str) -> Any:
    options = typing.get_args(kind)
    if value is None and type(None) in options:
        return None
    problem: Undecodable | None = None
    for option in options:
        if option is type(None):
            continue
        try:
            return from_json(option, value, place)
        except Undecodable as error:
            problem = error
    # Of one option besides None, its own message says more.
    if problem is not None and len([one for one in options if one is not type(None)]) == 1:
        raise problem
    raise _wrong(kind, value, place)


def _container(kind: Any, origin: Any, value: Any, place: str) -> Any:
    arguments = typing.get_args(kind)
    if isinstance(origin, type) and issubclass(origin, tuple):
        if not isinstance(value, list):
            raise _wrong(kind, value, place)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(from_json(arguments[0], one, f"{place}[{index}]") for index, one in enumerate(value))
        if len(value) != len(arguments):
            raise Undecodable(f"{place}: expected {len(arguments)} values, found {len(value)}")
        return tuple(
            from_json(each, one, f"{place}[{index}]")
            for index, (each, one) in enumerate(zip(arguments, value, strict=True))
        )
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        if not isinstance(value, dict):
            raise _wrong(kind, value, place)
        key_kind, item_kind = arguments
        return {
            from_json(key_kind, int(key) if key_kind is int else key, f"{place}.{key}"): from_json(
                item_kind, item, f"{place}.{key}"
            )
            for key, item in value.items()
        }
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable):
        if not isinstance(value, list):
            raise _wrong(kind, value, place)
        items = [from_json(arguments[0], one, f"{place}[{index}]") for index, one in enumerate(value)]
        if issubclass(origin, frozenset):
            return frozenset(items)
        return set(items) if issubclass(origin, collections.abc.Set) else items
    if dataclasses.is_dataclass(origin):
        return _plain(origin, value, place)
    raise TypeError(f"{place}: cannot read a {kind}")


_TEXTS: dict[type, Any] = {
    uuid.UUID: uuid.UUID,
    decimal.Decimal: decimal.Decimal,
    datetime.datetime: lambda text: datetime.datetime.fromisoformat(_offset(text)),
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    bytes: lambda text: base64.b64decode(text, validate=True),
}


def _offset(text: str) -> str:
    # Python 3.10 does not know the Z.
    return text[:-1] + "+00:00" if text.endswith("Z") else text


def _plain(kind: Any, value: Any, place: str) -> Any:
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (str, int, float, bool, dict, list):
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _wrong(kind, value, place)
        return value
    if kind in (set, frozenset, tuple):
        if not isinstance(value, list):
            raise _wrong(kind, value, place)
        return kind(value)
    if kind in _TEXTS:
        if not isinstance(value, str):
            raise _wrong(kind, value, place)
        try:
            return _TEXTS[kind](value)
        except (ValueError, decimal.InvalidOperation) as error:
            raise Undecodable(f"{place}: {error}") from error
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError as error:
            raise Undecodable(f"{place}: {error}") from error
    if callable(getattr(kind, "from_dict", None)):
        try:
            return kind.from_dict(value)
        except (KeyError, TypeError, ValueError) as error:
            raise Undecodable(f"{place}: {type(error).__name__}: {error}") from error
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, place)
    raise TypeError(f"{place}: cannot read a {kind}: give it to_dict() and from_dict()")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _dataclass(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(kind, value, place)
    hints = _hints(kind)
    arguments: dict[str, Any] = {}
    later: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        where = f"{place}.{field.name}" if place else field.name
        if field.name in value:
            read = from_json(hints.get(field.name, Any), value[field.name], where)
            (arguments if field.init else later)[field.name] = read
        elif field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Undecodable(f"{where}: missing")
    made = kind(**arguments)
    for name, read in later.items():
        object.__setattr__(made, name, read)
    return made
