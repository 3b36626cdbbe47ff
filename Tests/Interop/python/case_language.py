"""The language of Tests/Interop/cases, without any calls: variables, patterns, and what a step expects."""

import base64
import json
import re
import uuid

import grpc
from google.protobuf import json_format

from martlet_grpc import ERROR_DOMAIN, ErrorDetails


class Failure(Exception):
    """A step did not come to what it expects."""


def to_json(message):
    return json_format.MessageToDict(message, including_default_value_fields=True)


def find(path, value):
    """The value at a path such as `events.-1.position`."""
    for part in path.split("."):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (LookupError, ValueError):
            raise Failure(f"there is no {path} in the answer") from None
    return value


class Variables:
    """What a case has saved, and the ids that it has made."""

    def __init__(self):
        self.values = {}

    def save(self, paths, answer):
        for name, path in paths.items():
            self.values[name] = str(find(path, answer))

    def text(self, match):
        name = match.group(1)
        if name not in self.values:
            if not name.startswith("uuid:"):
                raise Failure(f"nothing was saved as {name}")
            self.values[name] = base64.b64encode(uuid.uuid4().bytes).decode()
        return self.values[name]

    def fill(self, value, is_pattern=False):
        """The value with its variables replaced, and with JSON as bytes unless it is a pattern."""
        if isinstance(value, str):
            return re.sub(r"\$\{([^}]+)\}", self.text, value)
        if isinstance(value, list):
            return [self.fill(one, is_pattern) for one in value]
        if isinstance(value, dict):
            if "$json" in value and not is_pattern:
                return base64.b64encode(json.dumps(self.fill(value["$json"])).encode()).decode()
            return {name: self.fill(one, is_pattern) for name, one in value.items()}
        return value


def difference(pattern, value, path=""):
    """Where and how a value does not match a pattern; None if it does."""
    if isinstance(pattern, dict):
        if "$json" in pattern:
            stored = json.loads(base64.b64decode(value))
            return None if stored == pattern["$json"] else f"{path}: {stored} is not {pattern['$json']}"
        if "$count" in pattern:
            count = len(value) if isinstance(value, list) else None
            return None if count == pattern["$count"] else f"{path}: {count} elements, not {pattern['$count']}"
        if "$contains" in pattern:
            elements = value if isinstance(value, list) else []
            missing = [one for one in pattern["$contains"] if all(difference(one, element) for element in elements)]
            return f"{path}: nothing matches {missing[0]}" if missing else None
        if not isinstance(value, dict):
            return f"{path}: {value} is no object"
        differences = (difference(one, value.get(name), f"{path}.{name}") for name, one in pattern.items())
        return next(filter(None, differences), None)
    if isinstance(pattern, list):
        if not isinstance(value, list) or len(value) != len(pattern):
            return f"{path}: {value} has not {len(pattern)} elements"
        differences = (difference(*pair, f"{path}.{index}") for index, pair in enumerate(zip(pattern, value)))
        return next(filter(None, differences), None)
    return None if type(pattern) is type(value) and pattern == value else f"{path}: {value!r} is not {pattern!r}"


def match(pattern, value):
    wrong = difference(pattern, value)
    if wrong:
        raise Failure(wrong)


def check_end(expected, error):
    """Holds the end of a call, an error or None, to the status that a step expects."""
    expected = expected or {"code": "OK"}
    code = error.code() if error else grpc.StatusCode.OK
    if code.name != expected["code"]:
        message = f": {error.details()}" if error else ""
        raise Failure(f"the call ended with {code.name}, not with {expected['code']}{message}")
    if "reason" not in expected:
        return
    reason, retryable = expected["reason"], expected.get("retryable", False)
    details = ErrorDetails(error.trailing_metadata())
    if details.status is None or details.status.code != code.value[0]:
        raise Failure(f"grpc-status-details-bin does not hold a google.rpc.Status of {code.name}")
    info, status = details.error_info, details.call_status
    if info is None or (info.reason, info.domain) != (reason, ERROR_DOMAIN):
        raise Failure(f"the ErrorInfo is not of {reason}: {info}")
    if status is None or (status.code, status.reason, status.retryable) != (code.value[0], reason, retryable):
        raise Failure(f"the CallStatus is not of {reason}: {status}")
    if (details.retry_info is not None) != retryable:
        raise Failure(f"there is {'a' if details.retry_info else 'no'} RetryInfo")
    if retryable and details.retry_info.retry_delay.ToNanoseconds() <= 0:
        raise Failure("the RetryInfo has no delay")
    match(expected.get("details", {}), to_json(status))


class Reading:
    """The messages that one step reads: counts them, merges them, and says when they are enough."""

    def __init__(self, step, variables):
        self.step = step
        self.variables = variables
        self.until = variables.fill(step.get("until"), is_pattern=True)
        self.merged = None
        self.events = 0
        after = step.get("positions_after")
        self.position = None if after is None else int(variables.fill(after))

    @property
    def pause_seconds(self):
        return self.step.get("pause_millis", 0) / 1000

    def take(self, message):
        """Takes the next message; true if it is the last one to read."""
        for recorded in getattr(message, "events", ()):
            self.events += 1
            if self.position is not None:
                if recorded.position != self.position + 1:
                    raise Failure(f"position {recorded.position} came after {self.position}")
                self.position += 1
        if "answer" in self.step or "save" in self.step:
            if self.merged is None:
                self.merged = type(message)()
            self.merged.MergeFrom(message)
        if self.until is None:
            return False
        if "events" in self.until:
            return self.events >= self.until["events"]
        return difference(self.until["message"], to_json(message)) is None

    def finish(self, ended, error=None):
        """Checks what the step expects, after the last message or the end of the call."""
        if ended and self.until is not None:
            check_end(None, error)
            raise Failure("the stream ended before what was waited for")
        if ended:
            check_end(self.variables.fill(self.step.get("status"), is_pattern=True), error)
        if self.step.get("count", self.events) != self.events:
            raise Failure(f"{self.events} events came, not {self.step['count']}")
        answer = to_json(self.merged) if self.merged is not None else None
        if "answer" in self.step:
            match(self.variables.fill(self.step["answer"], is_pattern=True), answer)
        self.variables.save(self.step.get("save", {}), answer)
