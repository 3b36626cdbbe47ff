import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// No error holds a password, however the connection string is written.
@Suite(.blocking) struct CredentialTests {
    /// Connection strings, and what of each must not be told.
    static let strings: [(url: String, secrets: [String])] = [
        ("postgres://martlet:s3cret@127.0.0.1:1/martlet", ["s3cret"]),
        ("postgres://martlet:s3%63ret@127.0.0.1:1/martlet", ["s3cret", "s3%63ret"]),
        ("postgres://martlet:s3cret%zz@127.0.0.1:1/martlet", ["s3cret"]),
        ("postgres://martlet:s3cret%00@127.0.0.1:1/martlet", ["s3cret"]),
        ("postgres://martlet:s3cret@[::1/martlet", ["s3cret"]),
        ("postgres://martlet:s3cret@[::1]x/martlet", ["s3cret"]),
        ("postgres://martlet:s3cret@127.0.0.1:port/martlet", ["s3cret"]),
        ("postgres://martlet:s3cret@127.0.0.1:99999/martlet", ["s3cret"]),
        ("postgres://martlet:s3@cret@127.0.0.1:1/martlet", ["cret"]),
        ("postgres://martlet:s3/cret@127.0.0.1:1/martlet", ["cret", "s3"]),
        ("postgres://martlet:12/cret@127.0.0.1:1/martlet", ["cret"]),
        ("postgres://127.0.0.1:1/cret@db/martlet", ["cret"]),
        ("postgres://martlet:s3/c?ret@127.0.0.1:1/martlet", ["ret@", "s3"]),
        ("postgres://martlet:s3/c?ret=x@127.0.0.1:1/martlet", ["ret", "s3"]),
        ("postgres://martlet:s3#cret@127.0.0.1:1/martlet", ["cret"]),
        ("postgres://martlet:s3cret", ["s3cret"]),
        ("postgres://martlet:s3 cret@127.0.0.1:1/martlet", ["cret"]),
        ("postgres://martlet@127.0.0.1:1/martlet?password=s3cret", ["s3cret"]),
        ("postgres://martlet@127.0.0.1:1/martlet?password=s3cret&password", ["s3cret"]),
        ("postgres://martlet@127.0.0.1:1/martlet?pasword=s3cret", ["s3cret"]),
        ("postgres://martlet@127.0.0.1:1/martlet?s3cret", ["s3cret"]),
        ("postgres://martlet@127.0.0.1:1/martlet?password=s3cret%", ["s3cret"]),
        ("postgres://martlet@127.0.0.1:1/martlet?sslpassword=s3cret&sslmode=s3cret", ["s3cret"]),
        ("host=127.0.0.1 port=1 user=martlet password=s3cret", ["s3cret"]),
        ("host=127.0.0.1 port=1 user=martlet password='s3cret", ["s3cret"]),
        ("host=127.0.0.1 port=1 user=martlet password=s3 cret", ["cret"]),
        ("host=127.0.0.1 port=1 user=martlet pasword=s3cret", ["s3cret"]),
    ]

    @Test(arguments: strings) func noErrorHoldsThem(_ url: String, _ secrets: [String]) throws {
        let engine = PostgreSQLEngine(connectionString: url, schema: "none", logger: .silent)
        for call in EngineCall.allCases {
            let error = try #require(try call.refusal(by: engine), "\(call)")
            #expect(error.kind == .misconfigured || error.kind == .unavailable, "\(call): \(error)")
            for secret in secrets { #expect(!error.description.contains(secret), "\(call): \(error)") }
            #expect(!"\(MartletError(error))".contains("127.0.0.1"), "\(call): \(MartletError(error))")
        }
    }

    @Test func whatIsWrongIsToldAllTheSame() throws {
        for (url, words) in [
            ("postgres://martlet:s3/cret@127.0.0.1:1/martlet", "%2F"),
            ("postgres://martlet:s3@cret@127.0.0.1:1/martlet", "%40"),
            ("postgres://martlet:s3cret@127.0.0.1:port/martlet", "port"),
            ("postgres://martlet:s3cret@127.0.0.1:1/martlet", "refused"),
        ] {
            let engine = PostgreSQLEngine(connectionString: url, schema: "none", logger: .silent)
            let error = refusal { () throws(StorageError) in try engine.prepare() }
            #expect(error?.description.contains(words) == true, "\(String(describing: error))")
        }
    }
}
