// swift-tools-version: 6.2
import PackageDescription

let kit = Target.Dependency.product(name: "MartletKit", package: "martlet")
let processes = Target.Dependency.product(name: "MartletProcesses", package: "martlet")
let projections = Target.Dependency.product(name: "MartletProjections", package: "martlet")
let postgreSQL = Target.Dependency.product(name: "MartletProjectionsPostgreSQL", package: "martlet")
let sqlite = Target.Dependency.product(name: "MartletProjectionsSQLite", package: "martlet")

let package = Package(
    name: "bank",
    dependencies: [.package(name: "martlet", path: "../..")],
    targets: [
        .target(name: "Accounts", dependencies: [kit]),
        .target(name: "Transfers", dependencies: ["Accounts", kit, processes]),
        .target(name: "ReadModels", dependencies: ["Accounts", kit, projections]),
        .executableTarget(
            name: "bank",
            dependencies: ["Accounts", "ReadModels", "Transfers", kit, processes, projections, postgreSQL, sqlite]),
        .testTarget(name: "AccountsTests", dependencies: ["Accounts"]),
    ]
)
