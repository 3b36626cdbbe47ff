import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import MartletStorageMemory
import MartletUpcasting
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletTenants

/// What a server remembers of its tenants' settings.
@Suite struct SettingsCacheTests {
    private let engine = MemoryEngine()
    private let now = Timestamp(microseconds: 1)

    private func tenant(_ number: UInt64) -> TenantID { Sample.tenant(number) }

    private func put(_ tenant: TenantID, _ kind: SettingsKind, _ document: String) throws {
        let request = PutSettingsRequest(tenant: tenant, kind: kind, document: ByteBuffer(string: document))
        _ = try engine.makeWriter().apply(.putSettings(request), now: now)
    }

    private func resolve(_ tenant: TenantID, _ cache: SettingsCache) throws -> TenantSettings {
        let reader = engine.makeReader()
        return try cache.resolve(tenant, try reader.tenantState(of: tenant), reader: reader)
    }

    private let upcasters = #"{"upcasters":[{"event":"A","from":1,"operations":[{"remove":{"path":"/x"}}]}]}"#

    @Test func aNewRevisionIsReadAndAnOldOneIsNot() throws {
        let cache = SettingsCache(limits: Limits())
        #expect(cache.known(tenant(1), now: .now()) == nil)
        #expect(try resolve(tenant(1), cache).revision == 0)
        try put(tenant(1), .upcasters, upcasters)
        let first = try resolve(tenant(1), cache)
        #expect(first.revision == 1 && !first.upcasters.isEmpty && first.upcastersVersion.revision == 1)
        let stale = try cache.resolve(tenant(1), .empty, reader: engine.makeReader())
        #expect(stale.revision == 1, "a tenantState that was read before is no reason to go back")
        try put(tenant(1), .snapshotPolicies, #"{"policies":[{"every_events":3}]}"#)
        let second = try resolve(tenant(1), cache)
        #expect(second.revision == 2 && second.upcastersVersion.revision == 1, "the upcasters are the same")
        #expect(second.policies != .none)
        #expect(cache.known(tenant(1), now: .now())?.settings.revision == 2)
        #expect(cache.known(tenant(1), now: .now() + .seconds(6))?.isOld == true)
    }

    @Test func whatCannotBeReadCountsAsNoneAndIsTold() throws {
        let faults = NIOLockedValueBox<[Reason]>([])
        let cache = SettingsCache(limits: Limits()) { _, error in faults.withLockedValue { $0.append(error.reason) } }
        try put(tenant(1), .snapshotPolicies, #"{"policies":[{"of_a_newer_server":1}]}"#)
        let settings = try resolve(tenant(1), cache)
        #expect(settings.revision == 1 && settings.policies == .none && settings.upcasters.isEmpty)
        #expect(faults.withLockedValue { $0 } == [.invalidSettings])
    }

    @Test func theOldestAreForgottenByNumberAndByBytes() throws {
        var limits = Limits()
        limits.settingsTenantsMax = 8
        var cache = SettingsCache(limits: limits)
        for number in UInt64(1)...8 { _ = try resolve(tenant(number), cache) }
        _ = cache.known(tenant(1), now: .now())
        _ = try resolve(tenant(9), cache)
        let kept = (UInt64(1)...9).filter { cache.known(tenant($0), now: .now()) != nil }
        #expect(kept == [1, 4, 5, 6, 7, 8, 9], "the two that were used longest ago are gone")
        limits = Limits()
        try put(tenant(20), .upcasters, upcasters)
        cache = SettingsCache(limits: limits)
        _ = try resolve(tenant(20), cache)
        limits.settingsCacheBytesMax = 3 * cache.bytes
        cache = SettingsCache(limits: limits)
        for number in UInt64(1)...4 {
            try put(tenant(number), .upcasters, upcasters)
            _ = try resolve(tenant(number), cache)
        }
        #expect((UInt64(1)...4).filter { cache.known(tenant($0), now: .now()) != nil } == [2, 3, 4])
    }

    /// What was compiled came on top of the bound: many small operations take some 20 times their document.
    @Test func whatWasCompiledIsOnTheAccount() throws {
        let operations = Array(repeating: #"{"remove":{"path":"/a"}}"#, count: 100).joined(separator: ",")
        let steps = (1...100).map { #"{"event":"A","from":\#($0),"operations":[\#(operations)]}"# }
        let document = #"{"upcasters":["# + steps.joined(separator: ",") + "]}"
        var limits = Limits()
        limits.settingsCacheBytesMax = 8 << 20
        let cache = SettingsCache(limits: limits)
        for number in UInt64(1)...5 {
            try put(tenant(number), .upcasters, document)
            let settings = try resolve(tenant(number), cache)
            #expect(settings.upcasters.memoryBytes > 5 * document.utf8.count)
            #expect(cache.bytes > settings.upcasters.memoryBytes && cache.bytes <= limits.settingsCacheBytesMax)
        }
        let kept = (UInt64(1)...5).filter { cache.known(tenant($0), now: .now()) != nil }
        #expect(kept.count < 5 && kept.last == 5)
    }

    /// Calls that have begun go by older settings than those in force.
    @Test func whatCallsGoByIsOnTheAccountUntilTheyEnd() throws {
        func document(_ round: Int) -> String {
            let filler = String(repeating: "x", count: 100_000 + round)
            return #"{"upcasters":[{"event":"A","from":1,"operations":[{"set":{"path":"/a","value":"\#(filler)"}}]}]}"#
        }
        var limits = Limits()
        limits.settingsCacheBytesMax = 4 << 20
        let cache = SettingsCache(limits: limits)
        try put(tenant(3), .upcasters, upcasters)
        _ = try resolve(tenant(3), cache)
        var calls: [TenantSettings] = []
        var refusal: StorageError?
        for round in 0..<40 where refusal == nil {
            try put(tenant(1), .upcasters, document(round))
            do throws(StorageError) {
                let reader = engine.makeReader()
                calls.append(try cache.resolve(tenant(1), try reader.tenantState(of: tenant(1)), reader: reader))
            } catch { refusal = error }
            #expect(cache.compiledBytes <= limits.settingsCacheBytesMax)
        }
        #expect(calls.count > 5, "half of the pool is one tenant's")
        let third = try #require(cache.known(tenant(3), now: .now())?.settings, "others are not forgotten for it")
        let error = try #require(refusal.map { MartletError($0) })
        #expect(error.code == .resourceExhausted && error.isRetryable && error.message.contains("4194304"), "\(error)")
        try put(tenant(2), .upcasters, document(0))
        let other = try resolve(tenant(2), cache)
        #expect(!other.upcasters.isEmpty, "others have their share")
        calls = []
        let inForce = try resolve(tenant(1), cache)
        let held = [inForce, other, third].reduce(0) { $0 + $1.upcasters.memoryBytes }
        #expect(held == cache.compiledBytes)
        // As they were: no more memory.
        try put(tenant(1), .snapshotPolicies, #"{"policies":[{"every_events":3}]}"#)
        let sameUpcasters = try resolve(tenant(1), cache)
        #expect(sameUpcasters.revision > inForce.revision)
        #expect(held == cache.compiledBytes)
    }

    @Test(arguments: [
        ("{", "document"), (#"{"policy":[]}"#, "unknown member 'policy'"),
        (#"{"policies":[{"keep":0}]}"#, "policies[0].keep"),
        (#"{"policies":[{"every_events":0}]}"#, "policies[0]"),
        (#"{"policies":[{"every":1}]}"#, "unknown member 'every'"),
        (#"{"policies":[{"aggregate_type":"no blanks"}]}"#, "policies[0].aggregate_type"),
        (#"{"policies":[{},{}]}"#, "second"),
        (#"{"policies":[{"aggregate_type":"a"},{"aggregate_type":"a"}]}"#, "policies[1]"),
        (#"{"policies":[{"every_events":"3"}]}"#, "every_events"),
    ])
    func policiesThatCannotBeUsedAreRefused(_ document: String, _ words: String) {
        let error = #expect(throws: MartletError.self) { try SnapshotPolicies(document: ByteBuffer(string: document)) }
        #expect(error?.reason == .invalidSettings && error?.message.contains(words) == true, "\(error?.message ?? "")")
    }

    @Test(arguments: [String.Encoding.utf16, .utf16LittleEndian, .utf16BigEndian, .utf32])
    func aNewDocumentIsJSONInUTF8(_ encoding: String.Encoding) throws {
        let text = #"{"policies":[{"every_events":2}]}"#
        let document = ByteBuffer(bytes: try #require(text.data(using: encoding)))
        let error = #expect(throws: MartletError.self) { try SnapshotPolicies(document: document) }
        #expect(error?.message.contains("document is not JSON: at byte ") == true, "\(error?.message ?? "")")
    }

    /// What is wrong is said in this code's words, not in those of Swift's library.
    @Test(arguments: [
        ("[", "document is not JSON: at byte 1"), (#"{"policies":{}}"#, "policies must be a list"),
        (#"{"policies":[3]}"#, "policies[0] must be an object"), ("{}", #"document must have "policies""#),
        (#"{"policies":[{"keep":"3"}]}"#, "policies[0].keep must be a whole number"),
        (#"{"policies":[{"every_events":-1}]}"#, "a number that is not whole or too large"),
        (#"{"policies":[{"every_events":1.5}]}"#, "a number that is not whole or too large"),
        (#"{"policies":[{"aggregate_type":3}]}"#, "policies[0].aggregate_type must be a string"),
        (#"{"policies":null}"#, "policies must not be null"),
    ])
    func refusalsAreInOurWords(_ document: String, _ words: String) {
        let error = #expect(throws: MartletError.self) { try SnapshotPolicies(document: ByteBuffer(string: document)) }
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
        #expect(error?.message.contains("Swift") == false && error?.message.contains("Decod") == false)
    }

    /// What Docs/PROTOCOL.md says of the document: its example is one, null is as if left out, a number may have any form,
    /// and of a member that comes twice the first counts.
    @Test func theGrammarIsAsDocumented() throws {
        let page = try ManualPage("PROTOCOL").text
        let section = try #require(page.components(separatedBy: "### Snapshot policies\n").last)
        let example = try #require(
            section.components(separatedBy: "```json\n").dropFirst().first?
                .components(separatedBy: "```").first)
        let policies = try SnapshotPolicies(document: ByteBuffer(string: example))
        let (order, other) = (AggregateType("order"), AggregateType("other"))
        #expect(policies[order] == SnapshotPolicy(everyEvents: 100, everyBytes: 65_536, kept: 5))
        #expect(policies[other].everyEvents == 1_000 && policies[other].kept == 3)
        for (document, everyEvents) in [
            (#"{"policies":[{"every_events":1e2,"keep":null}]}"#, 100), (#"{"policies":[{"every_events":7.0}]}"#, 7),
            (#"{"policies":[{"every_events":1,"every_events":2}]}"#, 1),
        ] {
            let policies = try SnapshotPolicies(document: ByteBuffer(string: document))
            #expect(policies[other] == SnapshotPolicy(everyEvents: UInt64(everyEvents), everyBytes: nil, kept: 3))
        }
        #expect(try SnapshotPolicies(document: ByteBuffer(string: #"{"policies":[]}"#)) == .none)
    }

    /// A server of before took it: it stays in force.
    @Test func aStoredDocumentStaysInForce() throws {
        let text = #"{"policies":[{"every_events":2}]}"#
        let utf16 = ByteBuffer(bytes: try #require(text.data(using: .utf16)))
        #expect(try SnapshotPolicies(stored: utf16) == SnapshotPolicies(document: ByteBuffer(string: text)))
    }
}
