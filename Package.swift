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
    static let metricsTestKit = product(name: "MetricsTestKit", package: "swift-metrics")
    static let nioConcurrencyHelpers = product(name: "NIOConcurrencyHelpers", package: "swift-nio")
    static let nioCore = product(name: "NIOCore", package: "swift-nio")
    static let nioHPACK = product(name: "NIOHPACK", package: "swift-nio-http2")
    static let nioHTTP1 = product(name: "NIOHTTP1", package: "swift-nio")
    static let nioHTTP2 = product(name: "NIOHTTP2", package: "swift-nio-http2")
    static let nioEmbedded = product(name: "NIOEmbedded", package: "swift-nio")
    static let nioPosix = product(name: "NIOPosix", package: "swift-nio")
    static let yams = product(name: "Yams", package: "Yams")
}

/// A layer: what it may import is what it names here, and nothing else (ArchitectureTests checks it).
///
/// Modules carry the prefix Martlet, so that none collides with one of a user's; their folders go without it.
func layer(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    let folder = name == "Martlet" ? name : String(name.dropFirst("Martlet".count))
    return .target(name: name, dependencies: dependencies, path: "Sources/\(folder)", swiftSettings: house)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: house)
}

func systemLibrary(_ name: String, pkgConfig: String, apt: String) -> Target {
    .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([apt])])
}

/// A target of Examples/Bank, whose own package users copy: built here as well, for the tests that run it.
func bank(_ name: String, isProgram: Bool = false, _ dependencies: [Target.Dependency]) -> Target {
    let path = "Examples/Bank/Sources/\(name)"
    return isProgram
        ? .executableTarget(name: name, dependencies: dependencies, path: path)
        : .target(name: name, dependencies: dependencies, path: path)
}

let package = Package(
    name: "martlet",
    products: [
        .executable(name: "martlet", targets: ["martlet"]),
        .library(name: "Martlet", targets: ["Martlet"]),
        .library(name: "MartletClient", targets: ["MartletClient"]),
        .library(name: "MartletEventSourcing", targets: ["MartletEventSourcing"]),
        .library(name: "MartletProcesses", targets: ["MartletProcesses"]),
        .library(name: "MartletProjections", targets: ["MartletProjections"]),
        .library(name: "MartletProjectionsPostgreSQL", targets: ["MartletProjectionsPostgreSQL"]),
        .library(name: "MartletProjectionsSQLite", targets: ["MartletProjectionsSQLite"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing", from: "1.7.3"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        systemLibrary("CMartletOpenSSL", pkgConfig: "openssl", apt: "libssl-dev"),
        systemLibrary("CMartletPostgreSQL", pkgConfig: "libpq", apt: "libpq-dev"),
        systemLibrary("CMartletProtobufC", pkgConfig: "libprotobuf-c", apt: "libprotobuf-c-dev"),
        systemLibrary("CMartletSQLite", pkgConfig: "sqlite3", apt: "libsqlite3-dev"),
        systemLibrary("CMartletZlib", pkgConfig: "zlib", apt: "zlib1g-dev"),
        .target(name: "CMartletChecksum"),
        .target(name: "CMartletProtos", dependencies: ["CMartletProtobufC"]),

        layer("MartletCollections", [.collections]),
        layer("MartletModel", [.nioCore]),
        layer("MartletRecordCodec", ["CMartletChecksum", "CMartletProtos", "MartletModel", .nioCore]),
        layer("MartletUpcasting", ["MartletModel", .nioCore]),
        layer("MartletSession", ["MartletModel", .nioCore]),
        layer(
            "MartletFrameCodec",
            [
                "CMartletProtos", "MartletModel", "MartletRecordCodec", "MartletSession", .nioCore,
            ]),
        layer(
            "MartletStorage",
            [
                "MartletCollections", "MartletModel", "MartletRecordCodec", .collections, .logging,
                .nioConcurrencyHelpers,
                .nioCore,
            ]),
        layer(
            "MartletTenants",
            [
                "MartletModel", "MartletStorage", "MartletUpcasting", .collections, .nioConcurrencyHelpers, .nioCore,
            ]),
        layer("MartletConsumers", ["MartletCollections", "MartletModel", .collections, .nioCore]),
        layer("MartletDelivery", ["MartletModel", "MartletRecordCodec", "MartletUpcasting", .nioCore]),
        layer(
            "MartletQueries",
            [
                "MartletDelivery", "MartletModel", "MartletRecordCodec", "MartletStorage", "MartletTenants",
                "MartletUpcasting", .nioCore,
            ]),
        layer(
            "MartletSubscriptions",
            [
                "MartletCollections",
                "MartletDelivery", "MartletModel", "MartletQueries", "MartletRecordCodec", "MartletStorage",
                "MartletTenants", "MartletUpcasting", .collections, .nioConcurrencyHelpers, .nioCore,
            ]),
        layer(
            "MartletStorageMemory",
            [
                "MartletModel", "MartletRecordCodec", "MartletStorage", .nioConcurrencyHelpers, .nioCore,
            ]),
        layer(
            "MartletStorageSQLite",
            [
                "CMartletSQLite", "MartletModel", "MartletRecordCodec", "MartletStorage", .logging,
                .nioConcurrencyHelpers, .nioCore,
            ]),
        layer(
            "MartletStoragePostgreSQL",
            [
                "CMartletPostgreSQL", "MartletModel", "MartletRecordCodec", "MartletStorage", .collections, .logging,
                .nioConcurrencyHelpers, .nioCore,
            ]),
        layer("MartletTLSOpenSSL", ["CMartletOpenSSL", .nioConcurrencyHelpers, .nioCore]),
        layer("MartletAccess", ["MartletModel"]),
        layer(
            "MartletService",
            [
                "MartletAccess", "MartletCollections", "MartletConsumers", "MartletDelivery", "MartletModel",
                "MartletQueries",
                "MartletRecordCodec", "MartletSession", "MartletStorage", "MartletSubscriptions", "MartletTenants",
                "MartletUpcasting", .collections, .logging, .metrics, .nioConcurrencyHelpers, .nioCore,
            ]),
        layer(
            "MartletNativeTransport",
            [
                "MartletAccess", "MartletFrameCodec", "MartletModel", "MartletService", "MartletSession",
                "MartletTLSOpenSSL", "MartletTenants", .logging, .nioCore,
            ]),
        layer(
            "MartletHTTP2Transport",
            [
                "CMartletZlib", "MartletAccess", "MartletFrameCodec", "MartletModel", "MartletRecordCodec",
                "MartletService", "MartletSession", "MartletTLSOpenSSL", "MartletTenants", .logging, .nioCore,
                .nioHPACK, .nioHTTP1,
            ]),
        layer(
            "MartletServer",
            [
                "MartletAccess", "MartletHTTP2Transport", "MartletModel", "MartletNativeTransport", "MartletService",
                "MartletStorage",
                "MartletTLSOpenSSL", .lifecycle, .logging, .nioConcurrencyHelpers, .nioCore, .nioHTTP1, .nioPosix,
            ]),
        layer(
            "MartletClient",
            [
                "MartletFrameCodec", "MartletModel", "MartletRecordCodec", "MartletSession", "MartletTLSOpenSSL",
                .collections, .lifecycle, .logging, .nioConcurrencyHelpers, .nioCore, .nioPosix,
            ]),
        layer(
            "MartletLoadTesting",
            [
                "MartletClient", "MartletModel", "MartletRecordCodec", "MartletSession", .collections, .histogram,
                .logging, .nioConcurrencyHelpers, .nioCore,
            ]),
        layer(
            "MartletEventSourcing",
            [
                "MartletClient", "MartletModel", .instrumentation, .logging, .nioConcurrencyHelpers, .nioCore,
            ]),
        layer(
            "MartletProcesses",
            [
                "MartletClient", "MartletEventSourcing", "MartletModel", .logging, .nioConcurrencyHelpers, .nioCore,
            ]),
        layer(
            "MartletProjections",
            ["MartletClient", "MartletModel", .logging, .nioConcurrencyHelpers]),
        layer(
            "MartletProjectionsPostgreSQL",
            ["CMartletPostgreSQL", "MartletProjections", .nioConcurrencyHelpers, .nioPosix]),
        layer("MartletProjectionsSQLite", ["CMartletSQLite", "MartletProjections", .nioPosix]),
        layer(
            "Martlet",
            ["MartletClient", "MartletEventSourcing", "MartletModel", "MartletTLSOpenSSL", .logging, .nioCore]),
        layer(
            "MartletTesting",
            [
                "CMartletProtos", "MartletAccess", "MartletClient", "MartletFrameCodec", "MartletModel",
                "MartletRecordCodec", "MartletServer", "MartletService", "MartletStorage", "MartletStorageMemory",
                "MartletTLSOpenSSL", "MartletTenants", .logging, .nioConcurrencyHelpers, .nioCore, .nioHPACK, .nioHTTP2,
                .nioPosix,
            ]),
        .executableTarget(
            name: "martlet",
            dependencies: [
                "MartletClient", "MartletLoadTesting", "MartletModel", "MartletServer", "MartletSession",
                "MartletStorage", "MartletStoragePostgreSQL", "MartletStorageSQLite", "MartletTLSOpenSSL",
                "MartletUpcasting", .argumentParser, .lifecycle, .logging, .nioConcurrencyHelpers, .nioCore,
                .unixSignals, .yams,
            ],
            swiftSettings: house),

        .executableTarget(
            name: "Projector",
            dependencies: [
                "MartletClient", "MartletModel", "MartletProjections", "MartletProjectionsPostgreSQL",
                "MartletProjectionsSQLite", "MartletTLSOpenSSL", .logging, .nioCore,
            ],
            path: "Tests/Projector", swiftSettings: house),
        .executableTarget(
            name: "InteropServer",
            dependencies: [
                "MartletHTTP2Transport", "MartletModel", "MartletRecordCodec", "MartletServer", "MartletStorageMemory",
                "MartletTLSOpenSSL", .logging, .nioCore,
            ],
            path: "Tests/InteropServer", swiftSettings: house),
        .executableTarget(
            name: "InteropTasks", dependencies: ["Martlet", "MartletProjections", "MartletProjectionsSQLite"],
            path: "Tests/InteropTasks", swiftSettings: house),
        .executableTarget(
            name: "Quickstart", dependencies: ["Martlet"], path: "Tests/Quickstart", swiftSettings: house),
        bank("Accounts", ["Martlet"]),
        bank("Transfers", ["Accounts", "Martlet", "MartletProcesses"]),
        bank("ReadModels", ["Accounts", "Martlet", "MartletProjections"]),
        bank(
            "bank", isProgram: true,
            [
                "Accounts", "Martlet", "MartletProcesses", "MartletProjections", "MartletProjectionsPostgreSQL",
                "MartletProjectionsSQLite", "ReadModels", "Transfers",
            ]),

        tests("ArchitectureTests", []),
        tests(
            "AttackTests",
            [
                "MartletClient", "MartletFrameCodec", "MartletModel", "MartletSession", "MartletStorageMemory",
                "MartletTLSOpenSSL", "MartletTesting", .nioConcurrencyHelpers, .nioCore, .nioPosix,
            ]),
        tests(
            "ClientTests",
            [
                "MartletClient", "MartletFrameCodec", "MartletModel", "MartletRecordCodec", "MartletSession",
                "MartletStorageMemory", "MartletTLSOpenSSL", "MartletTesting", .logging, .nioConcurrencyHelpers,
                .nioCore, .nioPosix,
            ]),
        tests(
            "ConformanceTests",
            [
                "MartletModel", "MartletRecordCodec", "MartletStorage", "MartletStorageMemory",
                "MartletStoragePostgreSQL", "MartletStorageSQLite", "MartletTesting", .logging, .nioConcurrencyHelpers,
                .nioCore, .nioPosix,
            ]),
        tests("CollectionsTests", ["MartletCollections", "MartletTesting"]),
        tests("ConsumersTests", ["MartletConsumers", "MartletModel", "MartletTesting", .nioCore]),
        tests(
            "EventSourcingTests",
            [
                "MartletClient", "MartletEventSourcing", "MartletModel", "MartletStorage", "MartletStorageMemory",
                "MartletStoragePostgreSQL", "MartletStorageSQLite", "MartletTesting", .logging, .nioConcurrencyHelpers,
                .nioCore,
            ]),
        tests(
            "FrameCodecTests",
            [
                "CMartletProtos", "MartletFrameCodec", "MartletModel", "MartletRecordCodec", "MartletSession",
                "MartletTesting", .nioCore,
            ]),
        tests(
            "FuzzReplayTests",
            [
                "martlet", "CMartletOpenSSL", "CMartletPostgreSQL", "MartletAccess", "MartletFrameCodec",
                "MartletHTTP2Transport", "MartletModel", "MartletRecordCodec", "MartletService", "MartletSession",
                "MartletStorage",
                "MartletStorageMemory", "MartletStoragePostgreSQL", "MartletSubscriptions", "MartletTLSOpenSSL",
                "MartletTenants", "MartletTesting", "MartletUpcasting", .logging, .nioConcurrencyHelpers, .nioCore,
                .nioEmbedded, .nioHPACK,
            ]),
        tests(
            "HTTP2TransportTests",
            [
                "MartletAccess", "MartletFrameCodec", "MartletHTTP2Transport", "MartletModel", "MartletRecordCodec",
                "MartletService", "MartletStorage", "MartletStorageMemory", "MartletTenants", "MartletTesting",
                .nioConcurrencyHelpers, .nioCore, .nioEmbedded, .nioHPACK, .nioHTTP2,
            ]),
        tests(
            "LoadTestingTests",
            [
                "MartletClient", "MartletLoadTesting", "MartletModel", "MartletRecordCodec", "MartletStorage",
                "MartletStorageMemory", "MartletTesting", .logging, .nioCore,
            ]),
        tests("ModelTests", ["MartletModel", "MartletTesting"]),
        tests(
            "NativeTransportTests",
            [
                "MartletAccess", "MartletFrameCodec", "MartletModel", "MartletNativeTransport", "MartletService",
                "MartletSession", "MartletStorage", "MartletStorageMemory", "MartletTenants", "MartletTesting",
                .nioCore, .nioEmbedded,
            ]),
        tests(
            "ProcessTests",
            [
                "martlet", "Accounts", "Transfers", "MartletClient", "MartletEventSourcing", "MartletModel",
                "MartletProcesses",
                "MartletProjections", "MartletProjectionsPostgreSQL", "MartletProjectionsSQLite", "MartletTLSOpenSSL",
                "MartletTesting",
                .nioConcurrencyHelpers, .nioCore,
            ]),
        tests("PagesTests", ["Martlet", "MartletStorageMemory", "MartletTesting"]),
        tests(
            "ProcessesTests",
            [
                "Accounts", "Transfers", "MartletClient", "MartletEventSourcing", "MartletModel", "MartletProcesses",
                "MartletStorage", "MartletStorageMemory", "MartletStoragePostgreSQL", "MartletStorageSQLite",
                "MartletTesting", .nioConcurrencyHelpers, .nioCore,
            ]),
        tests(
            "ProjectionsTests",
            [
                "MartletClient", "MartletModel", "MartletProjections", "MartletProjectionsPostgreSQL",
                "MartletProjectionsSQLite", "MartletStorage", "MartletStorageMemory", "MartletStoragePostgreSQL",
                "MartletStorageSQLite", "MartletTesting", .nioConcurrencyHelpers, .nioCore,
            ]),
        tests(
            "RecordCodecTests",
            ["CMartletProtos", "MartletModel", "MartletRecordCodec", "MartletTesting", .nioCore]),
        tests(
            "ServerTests",
            [
                "MartletClient", "MartletFrameCodec", "MartletModel", "MartletRecordCodec", "MartletServer",
                "MartletService", "MartletSession", "MartletStorage", "MartletStorageMemory",
                "MartletStoragePostgreSQL", "MartletStorageSQLite", "MartletTLSOpenSSL", "MartletTesting", .logging,
                .metrics, .metricsTestKit, .nioConcurrencyHelpers, .nioCore, .nioPosix,
            ]),
        tests(
            "ServiceTests",
            [
                "MartletAccess", "MartletConsumers", "MartletDelivery", "MartletModel", "MartletQueries",
                "MartletRecordCodec", "MartletService", "MartletStorage", "MartletStorageMemory",
                "MartletSubscriptions", "MartletTenants", "MartletTesting", "MartletUpcasting",
                .metrics, .metricsTestKit, .nioConcurrencyHelpers, .nioCore, .nioEmbedded,
            ]),
        tests("SessionTests", ["MartletModel", "MartletSession", .nioCore]),
        tests(
            "StoragePostgreSQLTests",
            [
                "MartletClient", "MartletModel", "MartletRecordCodec", "MartletService", "MartletStorage",
                "MartletStorageMemory", "MartletStoragePostgreSQL", "MartletTenants", "MartletTesting",
                .nioConcurrencyHelpers, .nioCore, .nioEmbedded,
            ]),
        tests(
            "StorageSQLiteTests",
            [
                "CMartletSQLite", "MartletModel", "MartletRecordCodec", "MartletStorage", "MartletStorageMemory",
                "MartletStorageSQLite", "MartletTesting", .logging, .nioConcurrencyHelpers, .nioCore,
            ]),
        tests(
            "StorageTests",
            [
                "MartletModel", "MartletQueries", "MartletRecordCodec", "MartletStorage", "MartletStorageMemory",
                "MartletTenants", "MartletTesting", .nioConcurrencyHelpers, .nioCore,
            ]),
        tests(
            "SubscriptionsTests",
            [
                "MartletDelivery", "MartletModel", "MartletQueries", "MartletRecordCodec", "MartletStorage",
                "MartletStorageMemory",
                "MartletSubscriptions", "MartletTenants", "MartletTesting", "MartletUpcasting", .nioConcurrencyHelpers,
                .nioCore, .nioEmbedded, .nioPosix,
            ]),
        tests(
            "TLSOpenSSLTests",
            [
                "CMartletOpenSSL", "MartletTLSOpenSSL", .nioConcurrencyHelpers, .nioCore, .nioEmbedded, .nioPosix,
            ]),
        tests("TenantsTests", ["MartletModel", "MartletTenants", "MartletTesting", .nioConcurrencyHelpers]),
        tests(
            "UpcastingTests",
            [
                "MartletDelivery", "MartletModel", "MartletRecordCodec", "MartletTesting", "MartletUpcasting",
                .nioCore,
            ]),
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
                "CAllocationCounter", "MartletFrameCodec", "MartletModel", "MartletRecordCodec", "MartletSession",
                "MartletStorage", "MartletStorageSQLite", "MartletSubscriptions", "MartletUpcasting", .logging,
                .nioCore, .nioEmbedded, .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "Benchmarks/Micro",
            exclude: ["README.md", "Thresholds"],
            swiftSettings: house,
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
    ]
}

// The fuzzer is the targets of FuzzReplayTests under libFuzzer: one program, in a package that is instrumented and has
// nothing else. See Fuzz/README.md.
if Context.environment["MARTLET_FUZZ"] != nil {
    let fuzzed = house + [.define("FUZZING"), .unsafeFlags(["-sanitize=fuzzer", "-enable-testing"])]
    package.products = []
    package.targets = package.targets.compactMap { target in
        switch target.type {
        case .test where target.name == "FuzzReplayTests":
            let linking: [LinkerSetting] = [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]
            return .executableTarget(
                name: "martlet-fuzz", dependencies: target.dependencies, path: "Tests/FuzzReplayTests",
                exclude: ["Replay"], swiftSettings: fuzzed, linkerSettings: linking)
        case .test: return nil
        case .executable:
            // The fuzzer has a main of its own.
            let renamed = ["-Xfrontend", "-entry-point-function-name", "-Xfrontend", "martlet_main"]
            return .target(
                name: target.name, dependencies: target.dependencies, path: target.path,
                swiftSettings: fuzzed + [.unsafeFlags(renamed)])
        default:
            if target.swiftSettings != nil { target.swiftSettings = fuzzed }
            return target
        }
    }
}
