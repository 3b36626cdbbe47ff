import Benchmark
import MartletFrameCodec
import MartletModel
import MartletRecordCodec
import MartletSession
import MartletStorage
import NIOCore

/// Frames and entries, to bytes and back.
func codecBenchmarks() {
    Benchmark.micro(
        "codec-encode-append-request", operations: 2_000,
        { (frame: ClientFrame(CallID(1), .request(.append(try Samples.append(1)))), buffer: ByteBuffer()) },
        { state, _ in
            state.buffer.clear()
            ClientFrameCodec.encode(state.frame, to: &state.buffer)
        })
    Benchmark.micro(
        "codec-decode-append-request", operations: 2_000,
        {
            var bytes = ByteBuffer()
            ClientFrameCodec.encode(ClientFrame(CallID(1), .request(.append(try Samples.append(1)))), to: &bytes)
            bytes.moveReaderIndex(forwardBy: FrameDecoder.prefixBytes)
            return bytes
        },
        { bytes, _ in blackHole(try ClientFrameCodec.decode(bytes, limits: Samples.limits)) })
    Benchmark.micro(
        "codec-encode-page-of-500-events", operations: 200,
        {
            let run = try Samples.runs(1, events: 500)[0]
            let view = ReadView(to: run.lastPosition, head: run.head)
            return (frame: ServerFrame(CallID(1), .read(run.entries, view)), buffer: ByteBuffer())
        },
        { state, _ in
            state.buffer.clear()
            ServerFrameCodec.encode(state.frame, to: &state.buffer)
        })
    Benchmark.micro(
        "codec-decode-batch-of-500-events", operations: 20, { try Samples.runs(1, events: 500)[0].entries },
        { entries, _ in blackHole(try RecordedEntries.decode(entries)) })
}
