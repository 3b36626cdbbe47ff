import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

// The event of a consumer that an append reacts to.

extension AppendCheckpoint {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__AppendCheckpoint>) throws(MartletError) {
        let message = unsafe message.pointee
        let slotsMax = ConsumerDefinition.slotsMax
        guard unsafe message.slot < UInt32(slotsMax) else {
            throw .invalidField(
                "checkpoint.slot", "is \(unsafe message.slot): slots are numbered from 0 to \(slotsMax - 1)")
        }
        guard unsafe message.epoch > 0 else {
            throw .invalidField("checkpoint.epoch", "is 0: send the epoch with which the slot was assigned")
        }
        guard unsafe message.position > 0 else {
            throw .invalidField("checkpoint.position", "is 0: send the position of the event, from 1")
        }
        guard let id = unsafe message.event_id.uuid else {
            throw .invalidField("checkpoint.event_id", "must have 16 bytes")
        }
        guard unsafe (1...ConsumerKey.bytesMax).contains(message.key.len) else {
            throw .invalidField(
                "checkpoint.key", "has \(unsafe message.key.len) bytes: a key has 1 to \(ConsumerKey.bytesMax)")
        }
        self.init(
            consumer: try unsafe ConsumerName(field: message.consumer, name: "checkpoint.consumer"),
            slot: Int(unsafe message.slot), epoch: unsafe message.epoch,
            event: Checkpoint(position: Position(unsafe message.position), eventID: id),
            key: unsafe ConsumerKey(bytes: message.key.bytes), isKeyBlocked: unsafe message.key_blocked != 0)
    }

    /// Writes the field of AppendRequest.
    func encode(to buffer: inout ByteBuffer) {
        unsafe event.withMessage { event in
            unsafe withCBytes([consumer.text]) { name in
                unsafe key.bytes.withUnsafeBytes { key in
                    unsafe withMessage(Martlet__V1__AppendCheckpoint(), martlet__v1__append_checkpoint__init) {
                        message in
                        unsafe message.pointee.consumer = unsafe name[0]
                        unsafe message.pointee.slot = UInt32(clamping: slot)
                        unsafe message.pointee.epoch = epoch
                        unsafe message.pointee.position = event.pointee.position
                        unsafe message.pointee.event_id = unsafe event.pointee.event_id
                        unsafe message.pointee.key = unsafe ProtobufCBinaryData(key)
                        unsafe message.pointee.key_blocked = isKeyBlocked ? 1 : 0
                        unsafe buffer.writeField(4, &message.pointee.base)
                    }
                }
            }
        }
    }
}
