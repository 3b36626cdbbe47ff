import MartletClient
import MartletModel
import MartletSession
import MartletStorageMemory
import MartletTesting
import Testing

/// What a server says of itself when it is asked.
@Suite(.timeLimit(.minutes(1))) struct ServerInfoTests {
    @Test func theAnswerSaysWhatWelcomeSaidAndTheFeatures() async throws {
        var limits = Limits()
        limits.snapshotBytesMax = 1_000
        limits.upcasting.stepsMax = 7
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            try await server.withClient { client in
                var info = try await client.serverInfo()
                let welcome = try await client.welcome().server
                #expect(info.limits.snapshotBytesMax == 1_000 && info.limits.upcasting.stepsMax == 7)
                #expect(info.features == ServerInfo.currentFeatures && welcome.features.isEmpty)
                #expect(info.serverTime >= welcome.serverTime)
                info.features = []
                info.serverTime = welcome.serverTime
                #expect(info == welcome)
            }
        }
    }

    @Test func featuresAreSortedAndDescribed() throws {
        #expect(ServerInfo.currentFeatures == ServerInfo.currentFeatures.sorted())
        let page = try ManualPage("PROTOCOL").text
        for feature in ServerInfo.currentFeatures { #expect(page.contains("\n| `\(feature)` | ")) }
    }
}
