"""Consumers: made, looked at, replaced, reset and deleted; and a worker."""

import uuid
from types import SimpleNamespace

from martlet.v1 import consumer_pb2, frame_pb2

from martlet_client import aggregate, event


def slot_of(key, slots):
    """The slot of a key, as the protocol's page describes it."""
    value = 0xCBF29CE484222325
    for byte in key:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return (value >> 32 ^ value & 0xFFFFFFFF) % slots


def checks(tools: SimpleNamespace):
    connect, append, expected, refused = tools.connect, tools.append, tools.expected, tools.refused
    tenant = tools.tenant

    def named():
        return f"interop.{uuid.uuid4()}"

    def call(connection, kind, request, **fields):
        return connection.unary(**{kind: request(tenant=tenant, **fields)})

    def put(connection, name, definition, **fields):
        return call(
            connection, "put_consumer", consumer_pb2.PutConsumerRequest, consumer=name, definition=definition, **fields
        )

    def get(connection, name):
        return call(connection, "get_consumer", consumer_pb2.GetConsumerRequest, consumer=name)

    def consumers_are_put_got_and_listed():
        connection, name = connect(), named()
        refused("CONSUMER_NOT_FOUND", lambda: get(connection, name))
        definition = consumer_pb2.ConsumerDefinition(tag="order", slots=4)
        made = put(connection, name, definition)
        assert made.is_new and made.revision
        again = put(connection, name, definition)
        assert not again.is_new and again.revision == made.revision
        wider = consumer_pb2.ConsumerDefinition(tag="order", slots=4, raw=True)
        refused("CONSUMER_EXISTS", lambda: put(connection, name, wider))
        refused("CONSUMER_REVISION_CONFLICT", lambda: put(connection, name, wider, revision=made.revision + 7))
        replaced = put(connection, name, wider, revision=made.revision)
        assert replaced.revision == made.revision + 1 and not replaced.is_new
        refused("CONSUMER_IN_USE", lambda: put(connection, name, consumer_pb2.ConsumerDefinition(slots=5), any=True))
        found = get(connection, name)
        assert found.consumer == name and found.revision == replaced.revision
        assert found.definition.tag == "order" and found.definition.slots == 4 and found.definition.raw
        assert found.definition.delivery.in_flight_max == 256 and found.definition.delivery.blocked_keys_max == 1_000
        assert not found.workers and not found.slots and found.checkpoint.position == 0
        listed = call(connection, "list_consumers", consumer_pb2.ListConsumersRequest).consumers
        assert name in [one.consumer for one in listed]
        listed = call(connection, "list_consumers", consumer_pb2.ListConsumersRequest, after=name).consumers
        assert name not in [one.consumer for one in listed]

    def consumers_are_reset_and_deleted():
        connection, name = connect(), named()
        answer = append(
            connection, (aggregate("interop.mail"), expected(none=True), [event("Sent", b"1"), event("Sent", b"2")])
        )
        start = consumer_pb2.ConsumerStart(after_position=answer.first_position)
        put(connection, name, consumer_pb2.ConsumerDefinition(), start=start)
        found = get(connection, name)
        assert found.checkpoint.position == answer.first_position and len(found.checkpoint.event_id) == 16
        assert found.oldest.position == answer.last_position
        assert found.settled_to_position == answer.first_position

        def reset(**fields):
            return call(connection, "reset_consumer", consumer_pb2.ResetConsumerRequest, consumer=name, **fields)

        refused("INVALID_FIELD", reset)
        end = consumer_pb2.ConsumerStart(after_position=answer.last_position)
        preview = reset(start=end, preview=True)
        assert preview.after_position == answer.last_position and preview.before_position == answer.first_position
        assert get(connection, name).checkpoint.position == answer.first_position, "a preview changes nothing"
        assert reset(start=end) == preview
        assert get(connection, name).checkpoint.position == answer.last_position
        beyond = consumer_pb2.ConsumerStart(after_position=2**40)
        refused("POSITION_BEYOND_HEAD", lambda: reset(start=beyond))

        key = b"a:order/11111111-1111-4111-8111-111111111111"
        assert slot_of(key, 16) == 11
        keys = call(connection, "list_blocked_keys", consumer_pb2.ListBlockedKeysRequest, consumer=name).keys
        assert not keys
        place = consumer_pb2.KeyPlace(slot=slot_of(key, 64), key=key)
        unblock = [consumer_pb2.KeyToUnblock(place=place)]
        unblocked = call(connection, "unblock_keys", consumer_pb2.UnblockKeysRequest, consumer=name, keys=unblock)
        assert unblocked.unblocked == 0
        call(connection, "delete_consumer", consumer_pb2.DeleteConsumerRequest, consumer=name)
        refused("CONSUMER_NOT_FOUND", lambda: get(connection, name))

    def a_worker_handles_each_event_of_its_slots():
        connection, name = connect(), named()
        answer = append(connection, (aggregate("interop.work"), expected(none=True), [event("Done", b"1")]))
        start = consumer_pb2.ConsumerStart(after_position=answer.last_position - 1)
        put(connection, name, consumer_pb2.ConsumerDefinition(slots=3), start=start)
        request = consumer_pb2.ConsumeStart(tenant=tenant, consumer=name, worker="python", epoch_above=9)
        work = connection.start(credit_bytes=1 << 20, consume=request)

        def following(kind):
            while True:
                frame = connection.receive()
                assert frame.call_id == work and frame.WhichOneof("body") == "consume", f"{frame}"
                if frame.consume.WhichOneof("message") == kind:
                    return getattr(frame.consume, kind)

        def say(**reply):
            replies = consumer_pb2.WorkerReplies(replies=[consumer_pb2.WorkerReply(**reply)])
            connection.send(frame_pb2.ClientFrame(call_id=work, replies=replies))

        slots = following("assigned").slots
        assert [one.slot for one in slots] == [0, 1, 2] and all(one.epoch > 9 for one in slots)
        say(alive=consumer_pb2.WorkerAlive())
        found = following("events")
        assert len(found.events) == len(found.deliveries) == 1 and found.events[0].position == answer.last_position
        delivery = found.deliveries[0]
        key = f"a:interop.work/{uuid.UUID(bytes=found.events[0].aggregate_id)}".encode()
        assert delivery.slot == slot_of(key, 3) and delivery.attempt == 1
        say(reject=consumer_pb2.Rejection(delivery=delivery.delivery, retry_after_millis=0, reason="once more"))
        again = following("events").deliveries[0]
        failure = get(connect(), name).last_failure
        assert failure.place.slot == delivery.slot and failure.place.key == key and failure.reason == "once more"
        assert failure.first.position == answer.last_position and failure.tries == 1
        assert again.attempt == 2 and again.delivery > delivery.delivery
        say(acknowledge=consumer_pb2.Acknowledgement(delivery=again.delivery, up_to=True))
        while following("committed").checkpoint.position < answer.last_position:
            pass
        connection.cancel(work)
        while connection.receive().WhichOneof("body") != "status":
            pass
        request = consumer_pb2.AwaitConsumerRequest(tenant=tenant, consumer=name, position=answer.last_position)
        assert connection.unary(await_consumer=request).position >= answer.last_position

    return [
        consumers_are_put_got_and_listed,
        consumers_are_reset_and_deleted,
        a_worker_handles_each_event_of_its_slots,
    ]
