// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "bank",
    dependencies: [.package(name: "martlet", path: "../..")],
    targets: [
        .target(name: "Accounts", dependencies: [.product(name: "MartletKit", package: "martlet")]),
        .executableTarget(
            name: "bank",
            dependencies: ["Accounts", .product(name: "MartletKit", package: "martlet")]),
        .testTarget(name: "AccountsTests", dependencies: ["Accounts"]),
    ]
)
