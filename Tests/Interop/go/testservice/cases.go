package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	grpctest "interop/grpctesting"
)

const (
	requestBytes  = 271_828
	responseBytes = 314_159
)

var (
	inputSizes  = []int{27_182, 8, 1_828, 45_904}
	outputSizes = []int32{31_415, 9, 2_653, 58_979}
)

// cases are those of gRPC's description of its interoperability tests, by their names there. The last two, which it
// leaves open, are described where they stand.
var cases = []struct {
	name string
	run  func(context.Context, stubs) error
}{
	{"empty_unary", emptyUnary},
	{"large_unary", largeUnary},
	{"client_compressed_unary", clientCompressedUnary},
	{"server_compressed_unary", serverCompressedUnary},
	{"client_streaming", clientStreaming},
	{"client_compressed_streaming", clientCompressedStreaming},
	{"server_streaming", serverStreaming},
	{"server_compressed_streaming", serverCompressedStreaming},
	{"ping_pong", pingPong},
	{"empty_stream", emptyStream},
	{"custom_metadata", customMetadata},
	{"status_code_and_message", statusCodeAndMessage},
	{"special_status_message", specialStatusMessage},
	{"unimplemented_method", unimplementedMethod},
	{"unimplemented_service", unimplementedService},
	{"cancel_after_begin", cancelAfterBegin},
	{"cancel_after_first_response", cancelAfterFirstResponse},
	{"timeout_on_sleeping_server", timeoutOnSleepingServer},
	{"flow_control", flowControl},
	{"concurrent_calls", concurrentCalls},
}

func payload(size int) *grpctest.Payload { return &grpctest.Payload{Body: make([]byte, size)} }

func unaryRequest() *grpctest.SimpleRequest {
	return &grpctest.SimpleRequest{ResponseSize: responseBytes, Payload: payload(requestBytes)}
}

func outputRequest(sizes ...int32) *grpctest.StreamingOutputCallRequest {
	request := &grpctest.StreamingOutputCallRequest{}
	for _, size := range sizes {
		request.ResponseParameters = append(request.ResponseParameters, &grpctest.ResponseParameters{Size: size})
	}
	return request
}

// expectZeros holds a payload to so many zeros.
func expectZeros(found *grpctest.Payload, count int) error {
	if !bytes.Equal(found.GetBody(), make([]byte, count)) {
		return fmt.Errorf("the body of %d bytes is not %d zeros", len(found.GetBody()), count)
	}
	return nil
}

// expectCode holds the end of a call to a code.
func expectCode(err error, code codes.Code) error {
	if status.Code(err) != code {
		return fmt.Errorf("the call ended with %v, not with %v", err, code)
	}
	return nil
}

// An outputStream is a stream of answers.
type outputStream interface {
	Recv() (*grpctest.StreamingOutputCallResponse, error)
}

// expectSizes reads a stream to its end: its payloads must have these sizes.
func expectSizes(stream outputStream, sizes ...int32) error {
	for index := 0; ; index++ {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) && index == len(sizes) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%d of %d answers came: %w", index, len(sizes), err)
		}
		if index == len(sizes) {
			return fmt.Errorf("more than %d answers came", len(sizes))
		}
		if err := expectZeros(answer.Payload, int(sizes[index])); err != nil {
			return err
		}
	}
}

func emptyUnary(ctx context.Context, stub stubs) error {
	_, err := stub.EmptyCall(ctx, &grpctest.Empty{})
	return err
}

func largeUnary(ctx context.Context, stub stubs) error {
	answer, err := stub.UnaryCall(ctx, unaryRequest())
	if err != nil {
		return err
	}
	return expectZeros(answer.Payload, responseBytes)
}

// The probe claims to be compressed and is not.
func clientCompressedUnary(ctx context.Context, stub stubs) error {
	request := unaryRequest()
	request.ExpectCompressed = &grpctest.BoolValue{Value: true}
	_, err := stub.UnaryCall(ctx, request)
	if err := expectCode(err, codes.InvalidArgument); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	answer, err := stub.UnaryCall(ctx, request, grpc.UseCompressor(gzip.Name))
	if err != nil {
		return err
	}
	if err := expectZeros(answer.Payload, responseBytes); err != nil {
		return err
	}
	request.ExpectCompressed.Value = false
	if answer, err = stub.UnaryCall(ctx, request); err != nil {
		return err
	}
	return expectZeros(answer.Payload, responseBytes)
}

// This client says that it takes compressed answers only where its requests are compressed.
var takesCompressed = grpc.UseCompressor(gzip.Name)

func serverCompressedUnary(ctx context.Context, stub stubs) error {
	for _, compressed := range []bool{true, false} {
		request := unaryRequest()
		request.ResponseCompressed = &grpctest.BoolValue{Value: compressed}
		noting, noted := withSizes(ctx)
		answer, err := stub.UnaryCall(noting, request, takesCompressed)
		if err != nil {
			return err
		}
		if err := expectZeros(answer.Payload, responseBytes); err != nil {
			return err
		}
		if len(*noted) != 1 || (*noted)[0].isCompressed() != compressed {
			return fmt.Errorf("%v came where compressed was to be %t", *noted, compressed)
		}
	}
	return nil
}

func sendSizes(stream grpctest.TestService_StreamingInputCallClient, isCompressed bool, sizes ...int) (int32, error) {
	for _, size := range sizes {
		request := &grpctest.StreamingInputCallRequest{Payload: payload(size)}
		if isCompressed {
			request.ExpectCompressed = &grpctest.BoolValue{Value: true}
		}
		if err := stream.Send(request); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, err
		}
	}
	answer, err := stream.CloseAndRecv()
	return answer.GetAggregatedPayloadSize(), err
}

func clientStreaming(ctx context.Context, stub stubs) error {
	stream, err := stub.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	size, err := sendSizes(stream, false, inputSizes...)
	if err == nil && size != 74_922 {
		err = fmt.Errorf("the sizes add up to %d", size)
	}
	return err
}

// Compression is for the whole call in this client: the second message is compressed as well.
func clientCompressedStreaming(ctx context.Context, stub stubs) error {
	probe, err := stub.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	_, err = sendSizes(probe, true, 27_182)
	if err := expectCode(err, codes.InvalidArgument); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	stream, err := stub.StreamingInputCall(ctx, grpc.UseCompressor(gzip.Name))
	if err != nil {
		return err
	}
	size, err := sendSizes(stream, true, 27_182, 45_904)
	if err == nil && size != 73_086 {
		err = fmt.Errorf("the sizes add up to %d", size)
	}
	return err
}

func serverStreaming(ctx context.Context, stub stubs) error {
	stream, err := stub.StreamingOutputCall(ctx, outputRequest(outputSizes...))
	if err != nil {
		return err
	}
	return expectSizes(stream, outputSizes...)
}

func serverCompressedStreaming(ctx context.Context, stub stubs) error {
	request := outputRequest(31_415, 92_653)
	request.ResponseParameters[0].Compressed = &grpctest.BoolValue{Value: true}
	request.ResponseParameters[1].Compressed = &grpctest.BoolValue{Value: false}
	noting, noted := withSizes(ctx)
	stream, err := stub.StreamingOutputCall(noting, request, takesCompressed)
	if err != nil {
		return err
	}
	if err := expectSizes(stream, 31_415, 92_653); err != nil {
		return err
	}
	if len(*noted) != 2 || !(*noted)[0].isCompressed() || (*noted)[1].isCompressed() {
		return fmt.Errorf("%v came where only the first was to be compressed", *noted)
	}
	return nil
}

func pingPong(ctx context.Context, stub stubs) error {
	stream, err := stub.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for index, size := range outputSizes {
		request := outputRequest(size)
		request.Payload = payload(inputSizes[index])
		if err := stream.Send(request); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := expectZeros(answer.Payload, int(size)); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return expectSizes(stream)
}

func emptyStream(ctx context.Context, stub stubs) error {
	stream, err := stub.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return expectSizes(stream)
}

func customMetadata(ctx context.Context, stub stubs) error {
	const initial, trailing = "test_initial_metadata_value", "\x0a\x0b\x0a\x0b\x0a\x0b"
	ctx = metadata.AppendToOutgoingContext(
		ctx, "x-grpc-test-echo-initial", initial, "x-grpc-test-echo-trailing-bin", trailing)
	verify := func(header, trailer metadata.MD) error {
		if found := header.Get("x-grpc-test-echo-initial"); len(found) != 1 || found[0] != initial {
			return fmt.Errorf("initial metadata %v came back", found)
		}
		if found := trailer.Get("x-grpc-test-echo-trailing-bin"); len(found) != 1 || found[0] != trailing {
			return fmt.Errorf("trailing metadata %q came back", found)
		}
		return nil
	}
	var header, trailer metadata.MD
	if _, err := stub.UnaryCall(ctx, unaryRequest(), grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		return err
	}
	if err := verify(header, trailer); err != nil {
		return err
	}
	stream, err := stub.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	request := outputRequest(responseBytes)
	request.Payload = payload(requestBytes)
	if err := stream.Send(request); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := expectSizes(stream, responseBytes); err != nil {
		return err
	}
	if header, err = stream.Header(); err != nil {
		return err
	}
	return verify(header, stream.Trailer())
}

func echoStatus(ctx context.Context, stub stubs, message string) error {
	verify := func(err error) error {
		if found := status.Convert(err); found.Code() != codes.Unknown || found.Message() != message {
			return fmt.Errorf("the call ended with %v: %q", found.Code(), found.Message())
		}
		return nil
	}
	echo := &grpctest.EchoStatus{Code: int32(codes.Unknown), Message: message}
	_, err := stub.UnaryCall(ctx, &grpctest.SimpleRequest{ResponseStatus: echo})
	if err := verify(err); err != nil {
		return err
	}
	stream, err := stub.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&grpctest.StreamingOutputCallRequest{ResponseStatus: echo}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	_, err = stream.Recv()
	return verify(err)
}

func statusCodeAndMessage(ctx context.Context, stub stubs) error {
	return echoStatus(ctx, stub, "test status message")
}

func specialStatusMessage(ctx context.Context, stub stubs) error {
	return echoStatus(ctx, stub, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")
}

func unimplementedMethod(ctx context.Context, stub stubs) error {
	_, err := stub.UnimplementedCall(ctx, &grpctest.Empty{})
	return expectCode(err, codes.Unimplemented)
}

func unimplementedService(ctx context.Context, stub stubs) error {
	_, err := stub.unimplemented.UnimplementedCall(ctx, &grpctest.Empty{})
	return expectCode(err, codes.Unimplemented)
}

func cancelAfterBegin(ctx context.Context, stub stubs) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := stub.StreamingInputCall(ctx)
	cancel()
	if err != nil {
		return err
	}
	_, err = stream.CloseAndRecv()
	return expectCode(err, codes.Canceled)
}

func cancelAfterFirstResponse(ctx context.Context, stub stubs) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := stub.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	request := outputRequest(31_415)
	request.Payload = payload(27_182)
	if err := stream.Send(request); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	cancel()
	_, err = stream.Recv()
	return expectCode(err, codes.Canceled)
}

// The answer that the request asks for would come after a minute.
func timeoutOnSleepingServer(ctx context.Context, stub stubs) error {
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	stream, err := stub.FullDuplexCall(ctx)
	if err != nil {
		return expectCode(err, codes.DeadlineExceeded)
	}
	request := outputRequest(31_415)
	request.Payload = payload(27_182)
	request.ResponseParameters[0].IntervalUs = 60_000_000
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = stream.Recv()
	return expectCode(err, codes.DeadlineExceeded)
}

// A stream of 64 MiB that nobody reads holds up neither the connection nor the server: calls beside it go on, and when
// it is read it is whole.
func flowControl(ctx context.Context, stub stubs) error {
	sizes := make([]int32, 256)
	for index := range sizes {
		sizes[index] = 256 << 10
	}
	stream, err := stub.StreamingOutputCall(ctx, outputRequest(sizes...))
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	time.Sleep(time.Second)
	for count := 0; count < 20; count++ {
		answer, err := stub.UnaryCall(ctx, &grpctest.SimpleRequest{ResponseSize: 1_000})
		if err != nil {
			return err
		}
		if err := expectZeros(answer.Payload, 1_000); err != nil {
			return err
		}
	}
	return expectSizes(stream, sizes[1:]...)
}

// 1,000 calls at a time on one connection, each answered for itself.
func concurrentCalls(ctx context.Context, stub stubs) error {
	const calls = 1_000
	all := func(call func(index int32) error) error {
		results := make(chan error, calls)
		for index := int32(0); index < calls; index++ {
			go func(index int32) { results <- call(index) }(index)
		}
		var failure error
		for count := 0; count < calls; count++ {
			if err := <-results; err != nil {
				failure = err
			}
		}
		return failure
	}
	err := all(func(index int32) error {
		answer, err := stub.UnaryCall(ctx, &grpctest.SimpleRequest{ResponseSize: 1 + index})
		if err != nil {
			return err
		}
		return expectZeros(answer.Payload, int(1+index))
	})
	if err != nil {
		return err
	}
	return all(func(index int32) error {
		stream, err := stub.StreamingOutputCall(ctx, outputRequest(100+index, 100+index, 100+index))
		if err != nil {
			return err
		}
		return expectSizes(stream, 100+index, 100+index, 100+index)
	})
}
