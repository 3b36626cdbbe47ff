import Foundation
import MartletModel
import NIOCore

/// What the consumers commands print, as JSON lines.
enum ConsumerLine {
    /// A key as text; one that is not UTF-8, since it was cut inside a character, as `base64:` and its bytes.
    static func text(of key: ConsumerKey) -> String {
        String(validating: key.bytes, as: UTF8.self) ?? "base64:\(Data(key.bytes).base64EncodedString())"
    }

    /// A consumer in a list.
    static func line(_ listed: ListedConsumer) -> String {
        #"{"consumer":"\#(listed.name)","revision":\#(listed.revision),"definition":\#(encode(listed.definition))}"#
    }

    /// How a consumer is.
    /// - Parameter now: the server's time.
    static func line(_ consumer: ConsumerDescription, now: Timestamp) -> String {
        let slots = consumer.slots.map { slot in
            #"{"slot":\#(slot.number),"epoch":\#(slot.epoch),"checkpoint":\#(slot.checkpoint.position),"#
                + #""worker":\#(slot.worker.map { #""\#($0)""# } ?? "null")}"#
        }
        var oldest = "null"
        if let event = consumer.oldest {
            let micros = max(0, now.microseconds - min(now.microseconds, event.recordedAt.microseconds))
            oldest =
                #"{"position":\#(event.position),"recorded_at":"\#(event.recordedAt)","#
                + #""age_seconds":\#(seconds(micros))}"#
        }
        let stopped = consumer.stoppedSlots.map {
            #"{"slot":\#($0.number),"reason":\#(EventLine.quoted($0.reason))}"#
        }
        return #"{"consumer":"\#(consumer.name)","revision":\#(consumer.revision),"head":\#(consumer.head.position),"#
            + #""checkpoint":\#(consumer.checkpoint.position),"settled_to":\#(consumer.settledTo),"#
            + #""positions_behind":\#(consumer.positionsBehind),"oldest_unsettled":\#(oldest),"#
            + #""blocked_keys":\#(consumer.blockedKeyCount),"#
            + #""last_failure":\#(consumer.lastFailure.map { line($0) } ?? "null"),"#
            + #""stopped_slots":[\#(stopped.joined(separator: ","))],"#
            + #""workers":[\#(consumer.workers.map { #""\#($0)""# }.joined(separator: ","))],"#
            + #""slots":[\#(slots.joined(separator: ","))],"definition":\#(encode(consumer.definition))}"#
    }

    /// A blocked key.
    static func line(_ listed: ListedKey) -> String {
        let blocked = listed.blocked
        var until = #""parked":true,"retry_at":null"#
        if case .retry(let time) = blocked.until { until = #""parked":false,"retry_at":"\#(time)""# }
        return #"{"slot":\#(listed.place.slot),"key":\#(EventLine.quoted(text(of: listed.place.key))),"#
            + #""position":\#(blocked.first.position),"first_handled":\#(blocked.isFirstHandled),\#(until),"#
            + #""tries":\#(blocked.tries),"since":"\#(blocked.since)","reason":\#(EventLine.quoted(blocked.reason))}"#
    }

    private static func seconds(_ micros: Int64) -> String {
        let millis = micros / 1_000
        let rest = String(millis % 1_000)
        return "\(millis / 1_000)." + String(repeating: "0", count: 3 - rest.count) + rest
    }

    private static func encode(_ definition: ConsumerDefinition) -> String {
        func list(_ texts: [String]) -> String { "[\(texts.sorted().map(EventLine.quoted).joined(separator: ","))]" }
        let key =
            switch definition.keyRule {
            case .aggregate: "aggregate"
            case .aggregateType: "aggregate-type"
            case .tag(let name): "tag:\(name)"
            }
        let (filter, delivery) = (definition.filter, definition.delivery)
        return #"{"types":\#(list(filter.aggregateTypes.map(\.text))),"#
            + #""event_types":\#(list(filter.eventTypes.map(\.text))),"#
            + #""ids":\#(list(filter.aggregateIDs.map { $0.uuidString.lowercased() })),"#
            + #""key":\#(EventLine.quoted(key)),"slots":\#(definition.slotCount),"raw":\#(definition.isRaw),"#
            + #""paused":\#(definition.isPaused),"window_events_max":\#(delivery.windowEventsMax),"#
            + #""in_flight_max":\#(delivery.inFlightMax),"blocked_keys_max":\#(delivery.blockedKeysMax),"#
            + #""retried_keys_max":\#(delivery.retriedKeysMax),"tries_max":\#(delivery.triesMax),"#
            + #""ack_timeout_millis":\#(millis(delivery.acknowledgementTimeout)),"#
            + #""backoff_min_millis":\#(millis(delivery.backoffMin)),"#
            + #""backoff_max_millis":\#(millis(delivery.backoffMax))}"#
    }

    private static func millis(_ time: TimeAmount) -> Int64 { time.nanoseconds / 1_000_000 }
}
