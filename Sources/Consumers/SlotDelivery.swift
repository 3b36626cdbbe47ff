public import MartletModel
public import NIOCore

extension SlotMachine {
    /// When something happens.
    public struct Moment: Hashable, Sendable {
        /// By a clock that never goes back: for acknowledgements that do not come.
        public var uptime: NIODeadline
        /// By the wall clock: for what is stored.
        public var time: Timestamp

        /// A moment by both clocks.
        public init(uptime: NIODeadline, time: Timestamp) {
            self.uptime = uptime
            self.time = time
        }
    }

    /// An event of the slot, as the log tells it.
    public struct Event: Hashable, Sendable {
        /// Its position and id.
        public var place: Checkpoint
        /// Its key.
        public var key: ConsumerKey
        /// When it was committed: only for who asks how old the oldest one is.
        public var recordedAt: Timestamp

        /// An event at that place.
        public init(place: Checkpoint, key: ConsumerKey, recordedAt: Timestamp = Timestamp(microseconds: 0)) {
            self.place = place
            self.key = key
            self.recordedAt = recordedAt
        }
    }

    /// An event on its way to the worker.
    public struct Delivery: Hashable, Sendable {
        /// Counts the deliveries of the machine, from 1.
        public var number: UInt64
        /// What is delivered.
        public var event: Event
        /// 1, or one more than the failed tries.
        public var attempt: UInt32
        /// The worker before this one may have handled it.
        public var mayBeRepeated: Bool
        /// The event's key is blocked, or was so a moment ago and may still be stored as blocked.
        public var isKeyBlocked: Bool
    }

    /// What a worker says of a delivery that it could not handle.
    public enum Rejection: Hashable, Sendable {
        /// The key waits, and is tried again after that time; nil is the consumer's backoff.
        case retry(after: TimeAmount?)
        /// The key waits until somebody retries or skips it.
        case park
        /// The slot stops.
        case stop
    }

    /// What became of an acknowledgement or a rejection.
    public enum Answer: Hashable, Sendable {
        /// It settled the delivery, or blocked its key.
        case taken
        /// It changed nothing: the delivery was settled before, or came too late and was taken back.
        case late
        /// There was no such delivery.
        case neverDelivered
    }

    /// Why nothing is delivered any more.
    public enum Stop: Hashable, Sendable {
        /// The worker asked for it.
        case asked(reason: String)
        /// One key more failed than may be blocked.
        case blockedKeysFull
        /// Another epoch is in force.
        case fenced
    }

    /// What has happened, for who counts it.
    public struct Counts: Hashable, Sendable {
        /// Deliveries that were taken back because no word of them came in time.
        public var timedOut = 0
        /// Keys that came to be blocked until somebody asks for them.
        public var keysParked = 0
    }

    /// Events of one key that are to be read from the log.
    public struct KeyRange: Hashable, Sendable {
        /// The key.
        public var key: ConsumerKey
        /// Exclusive lower bound.
        public var after: Position
        /// Inclusive upper bound.
        public var to: Position

        /// A range of those bounds.
        public init(key: ConsumerKey, after: Position, to: Position) {
            self.key = key
            self.after = after
            self.to = to
        }
    }
}
