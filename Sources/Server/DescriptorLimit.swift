import Glibc
public import MartletModel

/// How many file descriptors the process may have open.
public enum DescriptorLimit {
    /// Raises the process's soft limit of open files to the hard one.
    ///
    /// - Returns: the limit in force now; nil if the system does not tell.
    @discardableResult
    public static func raise() -> Int? {
        let files = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        guard unsafe getrlimit(files, &limit) == 0 else { return nil }
        if limit.rlim_cur < limit.rlim_max {
            var raised = limit
            raised.rlim_cur = limit.rlim_max
            if unsafe setrlimit(files, &raised) == 0 { limit = raised }
        }
        return Int(clamping: limit.rlim_cur)
    }

    /// Checks that the connections that `limits` allow find a descriptor each.
    ///
    /// - Parameter available: descriptors that the process may have open.
    /// - Throws: ``MartletError`` with reason `INVALID_LIMITS` if they do not.
    public static func check(_ limits: Limits, available: Int) throws(MartletError) {
        let needed = limits.fileDescriptorsMax
        guard available < needed else { return }
        let fitting = limits.connectionsMax - (needed - available)
        let advice = fitting > 0 ? "lower connections_max to \(fitting) (--connections-max)" : "lower connections_max"
        throw MartletError(
            .failedPrecondition, reason: .invalidLimits,
            message: "connections_max \(limits.connectionsMax) and greeting_connections_max "
                + "\(limits.greetingConnectionsMax) need \(needed) file descriptors, but the process may open only "
                + "\(available): raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd), or \(advice)")
    }
}
