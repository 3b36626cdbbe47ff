public import MartletStorage

/// An engine that does what another one does, but for what it says of itself.
public protocol WrappingEngine: StorageEngine {
    /// The engine behind.
    var base: any StorageEngine { get }
}

extension WrappingEngine {
    /// That of the engine behind.
    public var name: String { base.name }
    /// That of the engine behind.
    public var schemaVersion: UInt32 { base.schemaVersion }
    /// That of the engine behind.
    public var writersMax: Int { base.writersMax }
    /// That of the engine behind.
    public var readersMax: Int { base.readersMax }
    /// That of the engine behind.
    public var readsTakeProcessors: Bool { base.readsTakeProcessors }
    /// That of the engine behind.
    public var readersPerTenantMax: Int { base.readersPerTenantMax }
    /// As the engine behind does.
    public func prepare() throws(StorageError) { try base.prepare() }
    /// One of the engine behind.
    public func makeWriter() -> any StorageWriter { base.makeWriter() }
    /// One of the engine behind.
    public func makeReader() -> any StorageReader { base.makeReader() }
    /// That of the engine behind.
    public func makeListener() -> (any StorageListener)? { base.makeListener() }
    /// As the engine behind does.
    public func interrupt(_ work: StorageWork) { base.interrupt(work) }
}
