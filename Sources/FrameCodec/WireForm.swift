import CMartletProtos
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

/// What a frame holds that protobuf-c does not read as protobuf means it, and what a write may not hold.
///
/// protobuf-c takes no groups and no known field of another wire type: both are unknown fields, to be skipped. A member
/// of a `oneof` that comes twice is to be merged; protobuf-c takes the last one. Frames that hold any of that are
/// rewritten without it before protobuf-c reads them.
@safe struct WireForm {
    /// The first thing that keeps a write out.
    struct Finding {
        /// The field's number.
        var number: UInt32
        /// Where it stands, from the outside in.
        var path: [String] = []
        /// A known field, which comes twice.
        var isTwice = false
    }

    private(set) var finding: Finding?
    /// The body is a request that writes, or a worker's replies, which write too.
    private(set) var isWrite = false
    /// There is a group, or a known field of another wire type, or a body that comes twice and is to be merged.
    var mustRewrite: Bool { hasAlien || (hasDoubled && !isWrite) }

    private var hasAlien = false
    private var hasDoubled = false

    private typealias Descriptor = UnsafePointer<ProtobufCMessageDescriptor>
    private typealias Field = UnsafePointer<ProtobufCFieldDescriptor>

    /// replies, and the requests that are ``MartletModel/CallRequest/isWrite``: append, save_snapshot, delete_snapshots,
    /// put_settings, put_consumer, delete_consumer, reset_consumer, unblock_keys, change_schedules.
    private static let writes: Set<UInt32> = [9, 16, 22, 25, 26, 28, 31, 32, 34, 37]

    /// The numbers of all bodies that a frame of a client can have.
    static var clientBodies: Set<UInt32> {
        unsafe withMessage(Martlet__V1__ClientFrame(), martlet__v1__client_frame__init) { frame in
            guard let descriptor = unsafe frame.pointee.base.descriptor?.pointee else { return [] }
            let fields = unsafe UnsafeBufferPointer(start: descriptor.fields, count: Int(descriptor.n_fields))
            return unsafe Set(fields.lazy.filter { unsafe $0.type == PROTOBUF_C_TYPE_MESSAGE }.map { unsafe $0.id })
        }
    }

    static func ofClientFrame(_ message: ByteBuffer) -> WireForm {
        unsafe withMessage(Martlet__V1__ClientFrame(), martlet__v1__client_frame__init) { frame in
            unsafe WireForm(message, frame.pointee.base.descriptor)
        }
    }

    static func ofServerFrame(_ message: ByteBuffer) -> WireForm {
        unsafe withMessage(Martlet__V1__ServerFrame(), martlet__v1__server_frame__init) { frame in
            var form = unsafe WireForm(message, frame.pointee.base.descriptor)
            form.isWrite = false
            return form
        }
    }

    /// The frame as protobuf-c reads it the way protobuf means it. What cannot be read is left as it is.
    static func plainClientFrame(_ message: ByteBuffer, mergesBodies: Bool) -> ByteBuffer {
        unsafe withMessage(Martlet__V1__ClientFrame(), martlet__v1__client_frame__init) { frame in
            unsafe plain(message, frame.pointee.base.descriptor, mergesBodies)
        }
    }

    /// The frame as protobuf-c reads it the way protobuf means it. What cannot be read is left as it is.
    static func plainServerFrame(_ message: ByteBuffer) -> ByteBuffer {
        unsafe withMessage(Martlet__V1__ServerFrame(), martlet__v1__server_frame__init) { frame in
            unsafe plain(message, frame.pointee.base.descriptor, true)
        }
    }

    @unsafe private init(_ message: ByteBuffer, _ descriptor: Descriptor?) {
        guard let descriptor = unsafe descriptor else { return }
        unsafe message.withUnsafeReadableBytes { bytes in
            guard unsafe survey(WireReader(bytes, 0..<bytes.count), descriptor, isFrame: true) else {
                // No message: protobuf-c says so.
                self = WireForm()
                return
            }
        }
    }

    private init() {}

    /// False where the bytes are no message.
    @unsafe private mutating func survey(_ whole: WireReader, _ descriptor: Descriptor, isFrame: Bool) -> Bool {
        var reader = whole
        var last: UInt32 = 0
        while !reader.isAtEnd {
            guard let part = reader.next() else { return false }
            guard let field = unsafe Self.field(part, descriptor) else {
                if unsafe Self.field(number: part.number, descriptor) != nil || part.wireType == 3 { hasAlien = true }
                if finding == nil { finding = Finding(number: part.number) }
                continue
            }
            guard let sub = unsafe Self.message(field) else { continue }
            if unsafe field.pointee.flags & UInt32(PROTOBUF_C_FIELD_FLAG_ONEOF.rawValue) != 0 {
                if last == part.number {
                    hasDoubled = true
                    if finding == nil { finding = Finding(number: part.number, isTwice: true) }
                }
                last = part.number
                if isFrame { isWrite = Self.writes.contains(last) }
            }
            let isFirst = finding == nil
            guard unsafe survey(reader.inside(part), sub, isFrame: false) else { return false }
            if isFirst, finding != nil {
                finding?.path.insert(unsafe Self.name(field, part, in: whole), at: 0)
            }
        }
        return true
    }

    @unsafe private static func plain(_ message: ByteBuffer, _ descriptor: Descriptor?, _ merges: Bool) -> ByteBuffer {
        guard let descriptor = unsafe descriptor else { return message }
        var plain = ByteBuffer()
        plain.reserveCapacity(message.readableBytes)
        let isWhole = unsafe message.withUnsafeReadableBytes { bytes in
            unsafe rewrite(WireReader(bytes, 0..<bytes.count), descriptor, merges, to: &plain)
        }
        return isWhole ? plain : message
    }

    @unsafe private static func rewrite(
        _ whole: WireReader, _ descriptor: Descriptor, _ merges: Bool, to plain: inout ByteBuffer
    ) -> Bool {
        var reader = whole
        var body: (number: UInt32, content: ByteBuffer, descriptor: Descriptor)?
        while !reader.isAtEnd {
            guard let part = reader.next() else { return false }
            guard let field = unsafe field(part, descriptor) else { continue }
            guard let sub = unsafe message(field) else {
                unsafe plain.writeBytes(reader.bytes(part.whole))
                continue
            }
            if merges, unsafe field.pointee.flags & UInt32(PROTOBUF_C_FIELD_FLAG_ONEOF.rawValue) != 0 {
                if unsafe body?.number != part.number { unsafe body = (part.number, ByteBuffer(), sub) }
                unsafe body?.content.writeBytes(reader.bytes(part.content))
                continue
            }
            var inner = ByteBuffer()
            guard unsafe rewrite(reader.inside(part), sub, merges, to: &inner) else { return false }
            plain.writeField(part.number, length: inner.readableBytes)
            plain.writeImmutableBuffer(inner)
        }
        guard let (number, content, sub) = unsafe body else { return true }
        var inner = ByteBuffer()
        let isWhole = unsafe content.withUnsafeReadableBytes { bytes in
            unsafe rewrite(WireReader(bytes, 0..<bytes.count), sub, merges, to: &inner)
        }
        plain.writeField(number, length: inner.readableBytes)
        plain.writeImmutableBuffer(inner)
        return isWhole
    }

    /// The field that a part of a message is; nil where it is unknown, or of another wire type.
    @unsafe private static func field(_ part: WireReader.Part, _ descriptor: Descriptor) -> Field? {
        guard let field = unsafe field(number: part.number, descriptor) else { return nil }
        let wireType: UInt8 =
            switch unsafe field.pointee.type {
            case PROTOBUF_C_TYPE_STRING, PROTOBUF_C_TYPE_BYTES, PROTOBUF_C_TYPE_MESSAGE: 2
            case PROTOBUF_C_TYPE_FIXED64, PROTOBUF_C_TYPE_SFIXED64, PROTOBUF_C_TYPE_DOUBLE: 1
            case PROTOBUF_C_TYPE_FIXED32, PROTOBUF_C_TYPE_SFIXED32, PROTOBUF_C_TYPE_FLOAT: 5
            default: 0
            }
        // Numbers that are repeated may come packed.
        let isPacked = unsafe part.wireType == 2 && field.pointee.label == PROTOBUF_C_LABEL_REPEATED
        return unsafe part.wireType == wireType || isPacked ? field : nil
    }

    @unsafe private static func field(number: UInt32, _ descriptor: Descriptor) -> Field? {
        guard let fields = unsafe descriptor.pointee.fields else { return nil }
        for index in unsafe 0..<Int(descriptor.pointee.n_fields) where unsafe fields[index].id == number {
            return unsafe fields + index
        }
        return nil
    }

    /// The descriptor of a field that holds messages; nil for other fields.
    @unsafe private static func message(_ field: Field) -> Descriptor? {
        guard unsafe field.pointee.type == PROTOBUF_C_TYPE_MESSAGE else { return nil }
        return unsafe field.pointee.descriptor?.assumingMemoryBound(to: ProtobufCMessageDescriptor.self)
    }

    /// `append`, or `aggregates[3]` in a list.
    @unsafe private static func name(_ field: Field, _ part: WireReader.Part, in whole: WireReader) -> String {
        let name = unsafe String(cString: field.pointee.name)
        guard unsafe field.pointee.label == PROTOBUF_C_LABEL_REPEATED else { return name }
        var reader = whole
        var index = 0
        while let before = reader.next(), before.whole.lowerBound < part.whole.lowerBound {
            if before.number == part.number { index += 1 }
        }
        return "\(name)[\(index)]"
    }

    /// Takes a message's fields one by one, of whatever wire type.
    @safe struct WireReader {
        struct Part {
            var number: UInt32
            var wireType: UInt8
            /// The field with its key.
            var whole: Range<Int>
            /// What a length-delimited field holds.
            var content: Range<Int>
        }

        @unsafe private let bytes: UnsafeRawBufferPointer
        private var fields: LenientFields

        @unsafe init(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) {
            precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count, "the fields lie within their bytes")
            unsafe self.bytes = bytes
            fields = LenientFields(range)
        }

        var isAtEnd: Bool { fields.isAtEnd }

        func inside(_ part: Part) -> WireReader { unsafe WireReader(bytes, part.content) }

        @unsafe func bytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
            unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
        }

        mutating func next() -> Part? {
            let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
            guard let field = unsafe fields.next(in: typed.span) else { return nil }
            return Part(
                number: field.number, wireType: field.wireType, whole: field.start..<fields.offset,
                content: field.content ?? fields.offset..<fields.offset)
        }
    }
}

extension WireForm.Finding {
    /// What the write is refused with.
    var error: MartletError {
        let place = path.isEmpty ? "the frame" : path.joined(separator: ".")
        return isTwice
            ? .invalidField(place, "holds field \(number) twice: send it once")
            : .invalidField(
                place, "holds field \(number), which this server does not know: omit it, or use a newer server")
    }
}

extension ClientFrame {
    /// The frame with its write refused: an append unless it is stored already, any other as it is.
    func refused(_ error: MartletError) -> ClientFrame {
        var frame = self
        switch body {
        case .request(.append(var append)):
            append.admission = .refused(error)
            frame.body = .request(.append(append))
        case .request: frame.body = .malformed(error)
        case .replies: frame.body = .malformedReplies(error)
        default: break
        }
        return frame
    }
}
