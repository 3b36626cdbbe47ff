import Foundation
import MartletModel
import NIOCore

/// A file with settings, in JSON or YAML, as the JSON that the server takes.
enum DocumentFile {
    /// Reads a file, or standard input with `-`. JSON is passed on as it is; what is no JSON is read as YAML, but
    /// for files whose name ends in `.json`.
    ///
    /// No more than `bytesMax` bytes are read, and no more are made of them.
    /// - Throws: ``UsageError``, which names the place.
    static func read(_ path: String, bytesMax: Int = Limits().settingsBytesMax) throws -> ByteBuffer {
        let bytes = try contents(path, bytesMax: bytesMax)
        let fault = unsafe bytes.withUnsafeBytes { buffer -> JSONText.Fault? in
            do throws(JSONText.Fault) {
                try unsafe JSONText.check(buffer)
                return nil
            } catch { return error }
        }
        guard let fault else { return ByteBuffer(bytes: bytes) }
        guard !path.hasSuffix(".json") else {
            throw UsageError("\(path) is not JSON: at byte \(fault.offset), \(fault.complaint)")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw UsageError("\(path) is neither JSON nor YAML: it is not UTF-8")
        }
        do throws(LineFault) {
            return ByteBuffer(bytes: try YAMLDocument.json(text, bytesMax: bytesMax))
        } catch { throw UsageError("\(path): \(error)") }
    }

    /// The bytes of a file.
    static func contents(_ path: String, bytesMax: Int) throws -> [UInt8] {
        let handle: FileHandle
        if path == "-" {
            handle = .standardInput
        } else {
            guard let opened = FileHandle(forReadingAtPath: path) else {
                throw UsageError("cannot read \(path): it does not exist, or you may not read it")
            }
            handle = opened
        }
        var bytes: [UInt8] = []
        do {
            while bytes.count <= bytesMax,
                let more = try handle.read(upToCount: min(256 << 10, bytesMax + 1 - bytes.count)), !more.isEmpty
            {
                bytes.append(contentsOf: more)
            }
        } catch { throw UsageError("cannot read \(path): check that it is a file") }
        guard bytes.count <= bytesMax else {
            throw UsageError("\(path) has more than \(bytesMax) bytes, at most \(bytesMax) are allowed")
        }
        return bytes
    }
}
