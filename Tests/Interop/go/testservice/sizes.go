package main

import (
	"context"

	"google.golang.org/grpc/stats"
)

// received is a message of an answer: its size, and the size of what came in its place.
type received struct{ bytes, wireBytes int }

// prefixBytes is what stands before each message on the wire: a flag and a length.
const prefixBytes = 5

func (r received) isCompressed() bool { return r.wireBytes-prefixBytes < r.bytes }

type sizesKey struct{}

// withSizes returns a context whose call notes the messages that it receives, to be read when the call has ended.
func withSizes(ctx context.Context) (context.Context, *[]received) {
	noted := new([]received)
	return context.WithValue(ctx, sizesKey{}, noted), noted
}

// sizes is a stats handler that notes the sizes of messages for calls that ask for it.
type sizes struct{}

func (sizes) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (sizes) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sizes) HandleConn(context.Context, stats.ConnStats)                       {}

func (sizes) HandleRPC(ctx context.Context, what stats.RPCStats) {
	payload, isPayload := what.(*stats.InPayload)
	noted, isAsked := ctx.Value(sizesKey{}).(*[]received)
	if isPayload && isAsked {
		*noted = append(*noted, received{payload.Length, payload.WireLength})
	}
}
