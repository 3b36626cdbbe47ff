import COpenSSL
import NIOCore
import Synchronization

/// OpenSSL's side of the socket: a BIO that reads from one ByteBuffer and writes to another.
///
/// Used on one event loop. The BIO holds no reference to this object; whoever owns the `SSL *` owns both.
final class ByteBufferBIO {
    /// Encrypted bytes that came in and were not read yet.
    private var inbound = ByteBuffer()
    /// Encrypted bytes that are to go out.
    private var outbound = ByteBuffer()

    /// Adds bytes that came in.
    func receive(_ bytes: ByteBuffer) {
        if inbound.readableBytes == 0 {
            inbound = bytes
        } else {
            inbound.discardReadBytes()
            inbound.writeImmutableBuffer(bytes)
        }
    }

    /// Takes what is to go out; nil for nothing.
    func takeOutbound() -> ByteBuffer? {
        guard outbound.readableBytes > 0 else { return nil }
        defer { outbound = ByteBuffer() }
        return outbound
    }

    /// A BIO on this object, which must outlive it. Nil where memory is short.
    @unsafe func makeBIO() -> OpaquePointer? {
        guard let method = unsafe Self.method.pointer, let bio = unsafe BIO_new(method) else { return nil }
        unsafe BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        unsafe BIO_set_init(bio, 1)
        return unsafe bio
    }

    @unsafe private func read(into target: UnsafeMutableRawBufferPointer) -> Int {
        let count = min(target.count, inbound.readableBytes)
        guard count > 0 else { return 0 }
        unsafe inbound.readWithUnsafeReadableBytes { bytes in
            unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
            return count
        }
        return count
    }

    @unsafe private func write(_ bytes: UnsafeRawBufferPointer) { unsafe outbound.writeBytes(bytes) }

    /// The method table, made once and never freed.
    @safe private struct Method: @unchecked Sendable {
        // Guard: written once, before it is shared; OpenSSL only reads it.
        @unsafe let pointer: OpaquePointer?
    }

    private static let method: Method = {
        let type = BIO_get_new_index() | Int32(BIO_TYPE_SOURCE_SINK)
        guard let method = unsafe BIO_meth_new(type, "ByteBuffer") else { return unsafe Method(pointer: nil) }
        unsafe BIO_meth_set_read(method) { bio, target, count in
            guard let bio = unsafe bio, let target = unsafe target, count > 0,
                let data = unsafe BIO_get_data(bio)
            else { return -1 }
            unsafe martlet_bio_clear_retry_flags(bio)
            let owner = unsafe Unmanaged<ByteBufferBIO>.fromOpaque(data).takeUnretainedValue()
            let taken = unsafe owner.read(into: UnsafeMutableRawBufferPointer(start: target, count: Int(count)))
            guard taken == 0 else { return Int32(taken) }
            unsafe martlet_bio_set_retry_read(bio)
            return -1
        }
        unsafe BIO_meth_set_write(method) { bio, source, count in
            guard let bio = unsafe bio, let source = unsafe source, count > 0,
                let data = unsafe BIO_get_data(bio)
            else { return -1 }
            unsafe martlet_bio_clear_retry_flags(bio)
            let owner = unsafe Unmanaged<ByteBufferBIO>.fromOpaque(data).takeUnretainedValue()
            unsafe owner.write(UnsafeRawBufferPointer(start: source, count: Int(count)))
            return count
        }
        unsafe BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
        return unsafe Method(pointer: method)
    }()
}
