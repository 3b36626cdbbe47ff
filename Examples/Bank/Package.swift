// swift-tools-version: 6.2
import PackageDescription

let martlet = Target.Dependency.product(name: "Martlet", package: "martlet")
let processes = Target.Dependency.product(name: "MartletProcesses", package: "martlet")
let projections = Target.Dependency.product(name: "MartletProjections", package: "martlet")
let postgreSQL = Target.Dependency.product(name: "MartletProjectionsPostgreSQL", package: "martlet")
let sqlite = Target.Dependency.product(name: "MartletProjectionsSQLite", package: "martlet")

let package = Package(
    name: "bank",
    dependencies: [.package(name: "martlet", path: "../..")],
    targets: [
        .target(name: "Accounts", dependencies: [martlet]),
        .target(name: "Transfers", dependencies: ["Accounts", martlet, processes]),
        .target(name: "ReadModels", dependencies: ["Accounts", martlet, projections]),
        .executableTarget(
            name: "bank",
            dependencies: ["Accounts", "ReadModels", "Transfers", martlet, processes, projections, postgreSQL, sqlite]),
        .testTarget(name: "AccountsTests", dependencies: ["Accounts"]),
    ]
)
