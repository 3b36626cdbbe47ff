import Foundation
import MartletModel
import MartletTesting
import Testing

@testable import MartletClient

@Suite struct KeyTests {
    private struct Vectors: Decodable {
        struct Key: Decodable {
            var tenant: String
            var type: String
            var key: String
            var id: String
        }
        struct Invalid: Decodable {
            var key: String
            var wrong: String
        }
        var keys: [Key]
        var invalid_keys: [Invalid]
    }

    private func vectors() throws -> Vectors {
        let file = URL(filePath: "\(Repository.root)/Tests/Interop/keys.json")
        return try JSONDecoder().decode(Vectors.self, from: Data(contentsOf: file))
    }

    @Test func idsAreThoseOfAllClients() throws {
        let keys = try vectors().keys
        #expect(keys.count >= 38)
        for vector in keys {
            let tenant = TenantID(try #require(UUID(text: vector.tenant)))
            let type = try #require(AggregateType(vector.type))
            let name = try AggregateName(type: type, key: vector.key, tenant: tenant)
            #expect(name.id.uuidString.lowercased() == vector.id, "\(vector.key)")
        }
    }

    @Test func keysThatAreNotAllowedAreRefused() throws {
        let invalid = try vectors().invalid_keys
        #expect(invalid.count >= 13)
        for vector in invalid {
            let error = #expect(throws: MartletError.self, "\(vector.wrong)") {
                try AggregateName(type: "order", key: vector.key, tenant: Sample.tenant)
            }
            // What is wrong is said: a number of bytes, or of a character.
            let detail = vector.wrong.split(separator: " ").last { $0.contains { $0.isNumber } } ?? "empty"
            #expect(error?.message.contains(detail) == true, "\(error?.message ?? "")")
        }
    }
}
