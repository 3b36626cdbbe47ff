package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	health "interop/healthv1"
	martlet "interop/martletv1"
	reflection "interop/reflectionv1"
	alpha "interop/reflectionv1alpha"
)

// A method of a service. One of unary and stream is set.
type method struct {
	newRequest func() proto.Message
	unary      func(context.Context, proto.Message) (proto.Message, error)
	stream     func(context.Context, proto.Message) (receive, error)
}

// receive returns the next message of a stream, or io.EOF at its end.
type receive func() (proto.Message, error)

// message is a pointer to a message.
type message[M any] interface {
	*M
	proto.Message
}

func unary[Q message[R], A proto.Message, R any](call func(context.Context, Q, ...grpc.CallOption) (A, error)) method {
	return method{
		newRequest: func() proto.Message { return Q(new(R)) },
		unary: func(ctx context.Context, request proto.Message) (proto.Message, error) {
			return call(ctx, request.(Q))
		},
	}
}

func stream[Q message[R], S any, A proto.Message, R any](
	call func(context.Context, Q, ...grpc.CallOption) (S, error), next func(S) (A, error),
) method {
	return method{
		newRequest: func() proto.Message { return Q(new(R)) },
		stream: func(ctx context.Context, request proto.Message) (receive, error) {
			opened, err := call(ctx, request.(Q))
			if err != nil {
				return nil, err
			}
			return func() (proto.Message, error) { return next(opened) }, nil
		},
	}
}

// session is a method that takes a stream of requests: it gets one.
func session[Q message[R], S grpc.ClientStream, A proto.Message, R any](
	call func(context.Context, ...grpc.CallOption) (S, error), send func(S, Q) error, next func(S) (A, error),
) method {
	return method{
		newRequest: func() proto.Message { return Q(new(R)) },
		stream: func(ctx context.Context, request proto.Message) (receive, error) {
			opened, err := call(ctx)
			if err != nil {
				return nil, err
			}
			if err := send(opened, request.(Q)); err != nil {
				return nil, err
			}
			if err := opened.CloseSend(); err != nil {
				return nil, err
			}
			return func() (proto.Message, error) { return next(opened) }, nil
		},
	}
}

// allMethods returns the methods that cases call, by their full names.
func allMethods(channel *grpc.ClientConn) map[string]method {
	admin := martlet.NewAdminServiceClient(channel)
	appends := martlet.NewAppendServiceClient(channel)
	consumers := martlet.NewConsumerServiceClient(channel)
	queries := martlet.NewQueryServiceClient(channel)
	settings := martlet.NewSettingsServiceClient(channel)
	snapshots := martlet.NewSnapshotServiceClient(channel)
	subscriptions := martlet.NewSubscribeServiceClient(channel)
	watcher := health.NewHealthClient(channel)
	reflector := reflection.NewServerReflectionClient(channel)
	olderReflector := alpha.NewServerReflectionClient(channel)
	return map[string]method{
		"martlet.v1.AdminService/GetStatus":          unary(admin.GetStatus),
		"martlet.v1.AppendService/Append":            unary(appends.Append),
		"martlet.v1.ConsumerService/PutConsumer":     unary(consumers.PutConsumer),
		"martlet.v1.ConsumerService/AwaitConsumer":   unary(consumers.AwaitConsumer),
		"martlet.v1.QueryService/GetHead":            unary(queries.GetHead),
		"martlet.v1.QueryService/Load":               stream(queries.Load, martlet.QueryService_LoadClient.Recv),
		"martlet.v1.QueryService/Read":               stream(queries.Read, martlet.QueryService_ReadClient.Recv),
		"martlet.v1.SettingsService/PutSettings":     unary(settings.PutSettings),
		"martlet.v1.SnapshotService/SaveSnapshot":    unary(snapshots.SaveSnapshot),
		"martlet.v1.SnapshotService/LoadSnapshot":    unary(snapshots.LoadSnapshot),
		"martlet.v1.SnapshotService/ListSnapshots":   unary(snapshots.ListSnapshots),
		"martlet.v1.SnapshotService/DeleteSnapshots": unary(snapshots.DeleteSnapshots),
		"martlet.v1.SubscribeService/Subscribe": stream(
			subscriptions.Subscribe, martlet.SubscribeService_SubscribeClient.Recv),
		"grpc.health.v1.Health/Check": unary(watcher.Check),
		"grpc.health.v1.Health/Watch": stream(watcher.Watch, health.Health_WatchClient.Recv),
		"grpc.reflection.v1.ServerReflection/ServerReflectionInfo": session(
			reflector.ServerReflectionInfo, reflection.ServerReflection_ServerReflectionInfoClient.Send,
			reflection.ServerReflection_ServerReflectionInfoClient.Recv),
		"grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": session(
			olderReflector.ServerReflectionInfo, alpha.ServerReflection_ServerReflectionInfoClient.Send,
			alpha.ServerReflection_ServerReflectionInfoClient.Recv),
	}
}
