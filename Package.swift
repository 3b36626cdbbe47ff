// swift-tools-version: 6.2
import PackageDescription

/// Every target of ours: memory-unsafe calls are marked, a warning fails the build, an import is
/// internal unless it says otherwise.
let house: [SwiftSetting] = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

extension Target.Dependency {
    static let argumentParser = product(name: "ArgumentParser", package: "swift-argument-parser")
    static let collections = product(name: "Collections", package: "swift-collections")
    static let histogram = product(name: "Histogram", package: "hdrhistogram-swift")
    static let instrumentation = product(name: "Instrumentation", package: "swift-distributed-tracing")
    static let lifecycle = product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
    static let logging = product(name: "Logging", package: "swift-log")
    static let unixSignals = product(name: "UnixSignals", package: "swift-service-lifecycle")
    static let metrics = product(name: "Metrics", package: "swift-metrics")
    static let nioConcurrencyHelpers = product(name: "NIOConcurrencyHelpers", package: "swift-nio")
    static let nioCore = product(name: "NIOCore", package: "swift-nio")
    static let nioEmbedded = product(name: "NIOEmbedded", package: "swift-nio")
    static let nioPosix = product(name: "NIOPosix", package: "swift-nio")
    static let yams = product(name: "Yams", package: "Yams")
}

/// A layer: what it may import is what it names here, and nothing else (ArchitectureTests checks it).
func layer(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: house)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: house)
}

func systemLibrary(_ name: String, pkgConfig: String, apt: String) -> Target {
    .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([apt])])
}

let package = Package(
    name: "martlet",
    products: [
        .executable(name: "martlet", targets: ["martlet"]),
        .library(name: "MartletClient", targets: ["MartletClient"]),
        .library(name: "EventSourcing", targets: ["EventSourcing"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing", from: "1.7.3"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        systemLibrary("COpenSSL", pkgConfig: "openssl", apt: "libssl-dev"),
        systemLibrary("CPostgreSQL", pkgConfig: "libpq", apt: "libpq-dev"),
        systemLibrary("CProtobufC", pkgConfig: "libprotobuf-c", apt: "libprotobuf-c-dev"),
        systemLibrary("CSQLite", pkgConfig: "sqlite3", apt: "libsqlite3-dev"),
        .target(name: "CMartletProtos", dependencies: ["CProtobufC"]),

        layer("EventModel", [.nioCore]),
        layer("EventEncoding", ["CMartletProtos", "CProtobufC", "EventModel", .nioCore]),
        layer("EventUpcasting", ["EventEncoding", "EventModel", .nioCore]),
        layer("EventProtocol", ["EventModel", .collections, .nioCore]),
        layer(
            "EventWire",
            ["CMartletProtos", "CProtobufC", "EventEncoding", "EventModel", "EventProtocol", .nioCore]),
        layer("EventStorage", ["EventEncoding", "EventModel", .collections, .logging, .metrics, .nioCore]),
        layer("StorageSQLite", ["CSQLite", "EventEncoding", "EventModel", "EventStorage", .logging, .nioCore]),
        layer(
            "StoragePostgreSQL", ["CPostgreSQL", "EventEncoding", "EventModel", "EventStorage", .logging, .nioCore]),
        layer(
            "EventHub", ["EventEncoding", "EventModel", "EventStorage", "EventUpcasting", .collections, .nioCore]),
        layer("TLSOpenSSL", ["COpenSSL", .nioConcurrencyHelpers, .nioCore]),
        layer(
            "EventServer",
            [
                "EventEncoding", "EventHub", "EventModel", "EventProtocol", "EventStorage", "EventUpcasting",
                "EventWire", "TLSOpenSSL", .collections, .lifecycle, .logging, .metrics, .nioCore, .nioPosix,
            ]),
        layer(
            "MartletClient",
            [
                "EventEncoding", "EventModel", "EventProtocol", "EventWire", "TLSOpenSSL", .collections, .lifecycle,
                .logging, .nioCore, .nioPosix,
            ]),
        layer(
            "LoadTesting",
            [
                "EventModel", "EventProtocol", "MartletClient", .collections, .histogram, .logging, .nioCore,
            ]),
        layer("EventSourcing", ["EventModel", "MartletClient", .instrumentation, .logging, .nioCore]),
        layer(
            "EventTesting",
            [
                "EventEncoding", "EventHub", "EventModel", "EventProtocol", "EventServer", "EventStorage",
                "EventUpcasting",
                "EventWire", "MartletClient", "TLSOpenSSL", .collections, .logging, .nioCore, .nioPosix,
            ]),
        .executableTarget(
            name: "martlet",
            dependencies: [
                "EventModel", "EventProtocol", "EventServer", "EventStorage", "EventUpcasting", "LoadTesting",
                "MartletClient", "StoragePostgreSQL", "StorageSQLite", "TLSOpenSSL", .argumentParser, .lifecycle,
                .logging, .nioCore,
                .unixSignals, .yams,
            ],
            swiftSettings: house),

        tests("EventModelTests", ["EventModel", "EventTesting", .nioCore]),
        tests("EventEncodingTests", ["CMartletProtos", "EventEncoding", "EventModel", "EventTesting", .nioCore]),
        tests(
            "EventUpcastingTests", ["EventEncoding", "EventModel", "EventTesting", "EventUpcasting", .nioCore]),
        tests("EventProtocolTests", ["EventModel", "EventProtocol", .nioCore]),
        tests(
            "EventWireTests",
            ["EventEncoding", "EventModel", "EventProtocol", "EventTesting", "EventWire", .nioCore]),
        tests("EventStorageTests", ["EventEncoding", "EventModel", "EventStorage", "EventTesting", .nioCore]),
        tests(
            "StorageSQLiteTests",
            [
                "CSQLite", "EventEncoding", "EventModel", "EventStorage", "EventTesting", "StorageSQLite", .logging,
                .nioCore,
            ]),
        tests(
            "StoragePostgreSQLTests",
            ["EventEncoding", "EventModel", "EventStorage", "EventTesting", "StoragePostgreSQL", .nioCore]),
        tests(
            "EventHubTests",
            [
                "EventEncoding", "EventHub", "EventModel", "EventStorage", "EventTesting", "EventUpcasting", .nioCore,
                .nioEmbedded,
                .nioPosix,
            ]),
        tests(
            "TLSOpenSSLTests", ["COpenSSL", "TLSOpenSSL", .nioConcurrencyHelpers, .nioCore, .nioEmbedded, .nioPosix]),
        tests(
            "EventServerTests",
            [
                "EventEncoding", "EventModel", "EventProtocol", "EventServer", "EventStorage", "EventTesting",
                "EventWire",
                "MartletClient", "StoragePostgreSQL", "StorageSQLite", "TLSOpenSSL", .logging, .nioCore,
                .nioEmbedded, .nioPosix,
            ]),
        tests(
            "MartletClientTests",
            [
                "EventEncoding", "EventModel", "EventProtocol", "EventTesting", "EventWire", "MartletClient",
                "TLSOpenSSL", .logging, .nioCore, .nioPosix,
            ]),
        tests(
            "EventSourcingTests",
            [
                "EventModel", "EventSourcing", "EventStorage", "EventTesting", "MartletClient", "StoragePostgreSQL",
                "StorageSQLite", .instrumentation, .logging, .nioCore,
            ]),
        tests(
            "ConformanceTests",
            [
                "EventEncoding", "EventHub", "EventModel", "EventServer", "EventStorage", "EventTesting",
                "MartletClient", "StoragePostgreSQL", "StorageSQLite", .logging, .nioCore, .nioPosix,
            ]),
        tests(
            "LoadTestingTests",
            [
                "EventEncoding", "EventModel", "EventStorage", "EventTesting", "LoadTesting", "MartletClient", .logging,
                .nioCore,
            ]),
        tests("ArchitectureTests", []),
        tests(
            "ProcessTests",
            ["martlet", "EventModel", "EventSourcing", "EventTesting", "MartletClient", "TLSOpenSSL", .nioCore]),
    ]
)

// Micro-benchmarks measure layers that no product offers, so they are targets of this package. What they need is
// resolved and built only where somebody asks for it: see Benchmarks/Micro/README.md.
if Context.environment["MARTLET_BENCHMARKS"] != nil {
    package.dependencies.append(
        .package(url: "https://github.com/ordo-one/benchmark", exact: "1.38.1", traits: []))
    package.targets += [
        .target(name: "CAllocationCounter", path: "Benchmarks/Support/CAllocationCounter"),
        .executableTarget(
            name: "Micro",
            dependencies: [
                "CAllocationCounter", "EventEncoding", "EventHub", "EventModel", "EventProtocol", "EventStorage",
                "EventUpcasting", "EventWire", "StorageSQLite", .logging, .nioCore, .nioEmbedded,
                .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "Benchmarks/Micro",
            exclude: ["README.md", "Thresholds"],
            swiftSettings: house,
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
    ]
}
