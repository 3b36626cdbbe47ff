/// What a system call trace says of the order of writes, syncs and answers.
struct SyncOrder: Equatable {
    /// Answers that left while something in the log was not synced yet, and log writes that were never synced.
    var violations: [String] = []
    /// Answers that were the first after something new was synced.
    var syncedAnswers = 0

    /// Reads what `strace -f -yy` wrote, of a server that serves one call at a time.
    ///
    /// A sync covers what was written before it began, from the moment when it has returned 0. It must lie between
    /// the last write to the log and the next write to a socket.
    ///
    /// - Parameter log: the end of the log's path.
    init(trace: String, log: String) {
        var calls: [Substring: Call] = [:]
        var openWrites: Set<Int> = []
        var written = 0
        var synced = 0
        var answered = 0
        for line in trace.split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
            guard parts.count == 2 else { continue }
            let (thread, text) = (parts[0], parts[1].drop { $0 == " " })
            var call: Call
            if text.hasPrefix("<... ") {
                guard let begun = calls.removeValue(forKey: thread) else { continue }
                call = begun
            } else {
                guard let begun = Call(text, log: log) else { continue }
                call = begun
                switch call.kind {
                case .logWrite:
                    written += 1
                    call.number = written
                    openWrites.insert(written)
                case .logSync: call.number = (openWrites.min() ?? written + 1) - 1
                case .answer:
                    if written > synced {
                        violations.append("log write \(synced + 1) of \(written) is not synced before: \(text)")
                    } else if written > answered {
                        syncedAnswers += 1
                    }
                    answered = written
                }
                if text.hasSuffix("<unfinished ...>") {
                    calls[thread] = call
                    continue
                }
            }
            switch call.kind {
            case .logWrite: openWrites.remove(call.number)
            case .logSync: if text.hasSuffix("= 0") { synced = max(synced, call.number) }
            case .answer: break
            }
        }
        if written > synced { violations.append("log write \(synced + 1) of \(written) is never synced") }
    }

    /// How many syncs of the log a trace has.
    static func syncCount(_ trace: String, log: String) -> Int {
        trace.split(separator: "\n").count { line in
            let text = line.drop { $0 != " " }.drop { $0 == " " }
            guard case .logSync? = Call(text, log: log)?.kind else { return false }
            return true
        }
    }

    private struct Call {
        enum Kind {
            case logWrite, logSync, answer
        }

        let kind: Kind
        /// Of a write: its number. Of a sync: the number of the last write that it covers.
        var number = 0

        init?(_ text: Substring, log: String) {
            guard let name = text.split(separator: "(").first, let end = text.firstIndex(of: ">") else { return nil }
            // As in `pwrite64(7</data/m.db-wal>, …` and `write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, …`.
            let isSocket = text.contains("<TCP:[") || text.contains("<socket:[")
            let isLog = text[..<end].hasSuffix(log)
            switch name {
            case "pwrite64" where isLog, "write" where isLog: kind = .logWrite
            case "fdatasync" where isLog, "fsync" where isLog: kind = .logSync
            case "write" where isSocket, "writev" where isSocket, "sendto" where isSocket, "sendmsg" where isSocket:
                kind = .answer
            default: return nil
            }
        }
    }
}
