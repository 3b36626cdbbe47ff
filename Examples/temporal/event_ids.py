"""Event ids that follow from an activity, so that all its attempts append the same events."""

import uuid

from temporalio import activity

NAMESPACE = uuid.UUID("7c3a51f5-6f7e-4a5c-9d0d-2b4f0a1c9e64")


def event_id(number: int = 0) -> uuid.UUID:
    """The id of an event of the activity that runs: the same in each attempt, and in no other activity.

    An activity's id is unique within a run of its workflow. Two runs with one workflow id, as after a reset, have ids
    of their own: use keys of your business in place of the run id where a second run must not append again.
    """
    info = activity.info()
    # None of the three has a byte 0.
    name = "\0".join([info.workflow_id or "", info.workflow_run_id or "", info.activity_id, str(number)])
    return uuid.uuid5(NAMESPACE, name)
