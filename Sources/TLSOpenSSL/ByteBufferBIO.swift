import CMartletOpenSSL
import NIOCore

/// The two ends of a connection's ciphertext, between which OpenSSL stands: it reads what came from the network out of
/// `inbound`, and writes what is to go there to `outbound`. Neither ever blocks.
final class ByteBufferBIO {
    /// Ciphertext from the peer that OpenSSL has not taken yet.
    var inbound = ByteBuffer()
    /// Ciphertext for the peer.
    var outbound = ByteBuffer()
    /// How much of the ciphertext that OpenSSL has taken has not come out as plaintext: it holds part of a record.
    var heldBytes = 0

    /// A new `BIO` over these buffers. The caller owns it, and keeps `self` for as long as the BIO is in use.
    func makeBIO() throws(TLSError) -> OpaquePointer {
        guard let method = unsafe Self.method.pointer, let bio = unsafe BIO_new(method) else {
            throw ErrorQueue.configurationError("cannot create a BIO")
        }
        unsafe BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        unsafe BIO_set_init(bio, 1)
        return unsafe bio
    }

    private func read(into destination: UnsafeMutableRawBufferPointer) -> Int {
        let count = min(destination.count, inbound.readableBytes)
        guard count > 0 else { return 0 }
        unsafe inbound.readWithUnsafeReadableBytes { source in
            unsafe destination.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<count]))
            return count
        }
        heldBytes += count
        // An emptied buffer goes back to the channel at once, which then reuses it for the next read.
        if inbound.readableBytes == 0 { inbound = ByteBuffer() }
        return count
    }

    /// One method table for all BIOs. It is filled before anyone sees it and never changes afterwards.
    @safe private struct Method: @unchecked Sendable {
        let pointer: OpaquePointer?
    }

    private static let method = unsafe Method(pointer: makeMethod())

    private static func makeMethod() -> OpaquePointer? {
        let type = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK
        guard let method = unsafe BIO_meth_new(type, "ByteBuffer") else { return nil }
        unsafe BIO_meth_set_write(method) { bio, bytes, count in
            guard let owner = unsafe ByteBufferBIO.owner(of: bio), let bytes = unsafe bytes, count > 0 else {
                return -1
            }
            unsafe owner.outbound.writeBytes(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
            return count
        }
        unsafe BIO_meth_set_read(method) { bio, bytes, count in
            guard let owner = unsafe ByteBufferBIO.owner(of: bio), let bytes = unsafe bytes, count > 0 else {
                return -1
            }
            unsafe martlet_BIO_clear_retry(bio)
            let taken = unsafe owner.read(into: UnsafeMutableRawBufferPointer(start: bytes, count: Int(count)))
            if taken > 0 { return Int32(taken) }
            unsafe martlet_BIO_set_retry_read(bio)
            return -1
        }
        unsafe BIO_meth_set_ctrl(method) { _, command, _, _ in
            // OpenSSL flushes after each flight, and gives up unless that succeeds.
            command == BIO_CTRL_FLUSH ? 1 : 0
        }
        return unsafe method
    }

    private static func owner(of bio: OpaquePointer?) -> ByteBufferBIO? {
        guard let data = unsafe BIO_get_data(bio) else { return nil }
        return unsafe Unmanaged<ByteBufferBIO>.fromOpaque(data).takeUnretainedValue()
    }
}
