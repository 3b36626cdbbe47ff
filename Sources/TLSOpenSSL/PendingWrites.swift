import NIOCore

/// Plaintext that waits for a flush, or for the end of the handshake.
struct PendingWrites {
    private struct Write {
        var data: ByteBuffer
        var promise: EventLoopPromise<Void>?
    }

    private var writes = MarkedCircularBuffer<Write>(initialCapacity: 4)
    /// The plaintext that waits, in bytes.
    private(set) var bytes = 0

    /// Some of it may leave.
    var isFlushed: Bool { writes.hasMark }

    mutating func append(_ data: ByteBuffer, promise: EventLoopPromise<Void>?) {
        bytes += data.readableBytes
        writes.append(Write(data: data, promise: promise))
    }

    /// All that has been written so far may leave.
    mutating func flush() {
        writes.mark()
    }

    /// Encrypts what may leave: small writes are gathered into whole records, large ones go as they are. Returns what is
    /// to be told when the ciphertext has been written. After an error the connection is unusable.
    mutating func encrypt(with connection: SSLConnection) -> (promise: EventLoopPromise<Void>?, error: TLSError?) {
        var promises = Promises()
        var error: TLSError?
        var gathered = ByteBuffer()
        connection.reserveOutbound(plaintextBytes: bytes)
        while writes.hasMark, let write = writes.popFirst() {
            bytes -= write.data.readableBytes
            promises.add(write.promise)
            if error == nil {
                do throws(TLSError) {
                    try Self.encrypt(write.data, isLast: !writes.hasMark, gathered: &gathered, with: connection)
                } catch let failure {
                    error = failure
                }
            }
        }
        return (promises.first, error)
    }

    private static func encrypt(
        _ data: consuming ByteBuffer, isLast: Bool, gathered: inout ByteBuffer, with connection: SSLConnection
    ) throws(TLSError) {
        let recordBytes = SSLConnection.recordBytesMax
        if gathered.readableBytes > 0 {
            // Top up the record that has been begun.
            if var head = data.readSlice(length: min(recordBytes - gathered.readableBytes, data.readableBytes)) {
                gathered.writeBuffer(&head)
            }
            guard isLast || gathered.readableBytes == recordBytes else { return }
            try connection.write(&gathered)
            gathered.clear()
        }
        // Whole records leave without a copy, and so does everything when nothing comes after it.
        let wholeBytes = isLast ? data.readableBytes : data.readableBytes / recordBytes * recordBytes
        if wholeBytes > 0, var whole = data.readSlice(length: wholeBytes) {
            try connection.write(&whole)
        }
        if data.readableBytes > 0 {
            gathered.reserveCapacity(recordBytes)
            gathered.writeBuffer(&data)
        }
    }

    /// Fails everything that waits.
    mutating func fail(_ error: any Error) {
        // Promises may run code that writes again; what it writes is not of this queue.
        let failed = writes
        writes = MarkedCircularBuffer(initialCapacity: 4)
        bytes = 0
        for write in failed {
            write.promise?.fail(error)
        }
    }
}

/// Promises that are kept or broken together.
struct Promises {
    /// The one to keep or break; the others follow it.
    private(set) var first: EventLoopPromise<Void>?

    mutating func add(_ promise: EventLoopPromise<Void>?) {
        guard let promise else { return }
        if let first {
            first.futureResult.cascade(to: promise)
        } else {
            first = promise
        }
    }

    /// The one to keep or break, which is then the caller's to do.
    mutating func take() -> EventLoopPromise<Void>? {
        defer { first = nil }
        return first
    }
}
