public import MartletModel
public import NIOCore

extension UpcasterSet {
    /// Upcasts an event's payload.
    ///
    /// Steps are applied to one parsed form, which is written once. A chain that only changes the type copies the
    /// payload as it is, whatever its content type; any other wants JSON.
    /// - Parameters:
    ///   - type: the stored type.
    ///   - schemaVersion: the stored schema version.
    ///   - contentType: the payload's media type.
    ///   - target: the schema version to stop at; nil for the latest. An event beyond it stays as it is.
    ///   - outputBytesMax: bound of the new payload.
    ///   - output: gets the new payload with ``UpcastOutcome/upcast(_:)``, and nothing otherwise.
    public func upcast(
        event type: EventType, schemaVersion: UInt32, contentType: String, payload: ByteBuffer,
        atMost target: UInt32? = nil, outputBytesMax: Int, to output: inout ByteBuffer
    ) -> UpcastOutcome {
        var work = 0
        return unsafe payload.withUnsafeReadableBytes { bytes in
            unsafe run(
                Step.ID(subject: .event(type), from: schemaVersion), contentType, bytes, target, outputBytesMax,
                &output,
                &work)
        }
    }

    /// Upcasts an event's payload, as above; the bytes must not change meanwhile.
    /// - Parameter work: grows by what it takes, in bytes looked at, as ``UpcastingLimits/workPerPageMax`` counts.
    @unsafe public func upcast(
        event type: EventType, schemaVersion: UInt32, contentType: String, payload: UnsafeRawBufferPointer,
        atMost target: UInt32? = nil, outputBytesMax: Int, to output: inout ByteBuffer, work: inout Int
    ) -> UpcastOutcome {
        unsafe run(
            Step.ID(subject: .event(type), from: schemaVersion), contentType, payload, target, outputBytesMax, &output,
            &work)
    }

    /// Upcasts the snapshot of an aggregate of that type, as an event is.
    public func upcast(
        snapshot type: AggregateType, schemaVersion: UInt32, contentType: String, payload: ByteBuffer,
        atMost target: UInt32? = nil, outputBytesMax: Int, to output: inout ByteBuffer
    ) -> UpcastOutcome {
        var work = 0
        return upcast(
            snapshot: type, schemaVersion: schemaVersion, contentType: contentType, payload: payload, atMost: target,
            outputBytesMax: outputBytesMax, to: &output, work: &work)
    }

    /// Upcasts the snapshot of an aggregate of that type, as an event is.
    /// - Parameter work: grows by what it takes, in bytes looked at, as ``UpcastingLimits/workPerPageMax`` counts.
    public func upcast(
        snapshot type: AggregateType, schemaVersion: UInt32, contentType: String, payload: ByteBuffer,
        atMost target: UInt32? = nil, outputBytesMax: Int, to output: inout ByteBuffer, work: inout Int
    ) -> UpcastOutcome {
        unsafe payload.withUnsafeReadableBytes { bytes in
            unsafe run(
                Step.ID(subject: .snapshot(type), from: schemaVersion), contentType, bytes, target, outputBytesMax,
                &output, &work)
        }
    }

    /// Upcasts the snapshot of an aggregate of that type, as an event is; the bytes must not change meanwhile.
    @unsafe public func upcast(
        snapshot type: AggregateType, schemaVersion: UInt32, contentType: String, payload: UnsafeRawBufferPointer,
        atMost target: UInt32? = nil, outputBytesMax: Int, to output: inout ByteBuffer
    ) -> UpcastOutcome {
        var work = 0
        return unsafe run(
            Step.ID(subject: .snapshot(type), from: schemaVersion), contentType, payload, target, outputBytesMax,
            &output, &work)
    }

    @unsafe private func run(
        _ start: Step.ID, _ contentType: String, _ payload: UnsafeRawBufferPointer, _ target: UInt32?,
        _ outputBytesMax: Int, _ output: inout ByteBuffer, _ work: inout Int
    ) -> UpcastOutcome {
        let graph = storage.graph
        guard !graph.steps.isEmpty else { return .unchanged }
        let chain = graph.chain(start, atMost: target)
        guard let first = chain.first, let last = chain.last else { return .unchanged }

        func failed(_ step: Int, _ complaint: String) -> UpcastOutcome {
            let id = graph.steps[step].id
            return .failed(
                UpcastFailure(
                    subject: id.subject, fromVersion: id.from, operation: nil, pointer: "", complaint: complaint))
        }
        let end = graph.steps[last].next
        let outcome = UpcastOutcome.upcast(Upcast(subject: end.subject, schemaVersion: end.from))

        guard let firstChange = chain.first(where: { storage.program.steps[$0].changesPayload }) else {
            guard payload.count <= outputBytesMax else {
                return failed(last, "the payload has \(payload.count) bytes, at most \(outputBytesMax) are allowed")
            }
            unsafe output.writeBytes(payload)
            work += payload.count
            return outcome
        }
        guard JSONText.isJSON(contentType: contentType) else {
            return failed(firstChange, "the content type is not JSON")
        }
        guard payload.count < Int(Int32.max) else { return failed(first, "the payload is larger than 2 GiB") }
        work += payload.count
        let depth: Int
        do throws(JSONText.Fault) {
            depth = try unsafe JSONText.check(payload)
        } catch {
            return failed(first, "the payload is not JSON: at byte \(error.offset), \(error.complaint)")
        }
        return unsafe storage.program.pool.withUnsafeBytes { pool in
            var machine = unsafe UpcastMachine(
                program: storage.program, payload: payload, pool: pool, limits: storage.limits)
            defer { work += machine.tree.workDone + output.readableBytes }
            for step in chain {
                if let failure = machine.run(step) {
                    let id = graph.steps[step].id
                    return .failed(
                        UpcastFailure(
                            subject: id.subject, fromVersion: id.from, operation: failure.operation,
                            pointer: failure.pointer, complaint: failure.complaint))
                }
            }
            do throws(Complaint) {
                try machine.tree.write(payloadDepth: depth, bytesMax: outputBytesMax, to: &output)
            } catch {
                return failed(last, error.text)
            }
            return outcome
        }
    }
}
