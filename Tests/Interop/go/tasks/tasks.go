package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	martlet "interop/martletv1"
)

// task: connect

// A client is a connection to Martlet, for one tenant.
type client struct {
	tenant        []byte
	connection    *grpc.ClientConn
	admin         martlet.AdminServiceClient
	appends       martlet.AppendServiceClient
	queries       martlet.QueryServiceClient
	subscriptions martlet.SubscribeServiceClient
}

// connect presents the certificate, and takes the limit of what it receives from the server.
func connect(ctx context.Context, target, caFile, certFile, keyFile string, tenant []byte) (*client, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	dial := func(receiveBytesMax int) (*grpc.ClientConn, error) {
		return grpc.Dial(
			target,
			grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
				Certificates: []tls.Certificate{certificate},
				RootCAs:      roots,
				MinVersion:   tls.VersionTLS13,
			})),
			// A connection that has died silently is found within 40 s.
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytesMax)))
	}
	first, err := dial(4 << 20)
	if err != nil {
		return nil, err
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	admin := martlet.NewAdminServiceClient(first)
	info, err := admin.GetServerInfo(ctx, &martlet.GetServerInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	fmt.Printf("connected as %s, messages of up to %d bytes\n", info.Identity, info.Limits.FrameBytesMax)
	connection, err := dial(int(info.Limits.FrameBytesMax))
	if err != nil {
		return nil, err
	}
	return &client{
		tenant:        tenant,
		connection:    connection,
		admin:         martlet.NewAdminServiceClient(connection),
		appends:       martlet.NewAppendServiceClient(connection),
		queries:       martlet.NewQueryServiceClient(connection),
		subscriptions: martlet.NewSubscribeServiceClient(connection),
	}, nil
}

// end

// task: append

// newID returns a UUIDv7. An event keeps its id however often it is sent.
func newID() []byte {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint64(id, uint64(time.Now().UnixMilli())<<16|0x7000|uint64(id[6]&0x0f)<<8|uint64(id[7]))
	id[8] = id[8]&0x3f | 0x80
	return id
}

func newEvent(kind, payload string) *martlet.Event {
	return &martlet.Event{Id: newID(), Type: kind, Payload: []byte(payload)}
}

// placeOrder begins an order with two events: both are stored, or neither.
func (c *client) placeOrder(ctx context.Context, order []byte) (*martlet.AppendResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return c.appends.Append(ctx, &martlet.AppendRequest{
		Tenant: c.tenant,
		Aggregates: []*martlet.AggregateAppend{{
			Aggregate: &martlet.AggregateName{Type: "order", Id: order},
			Expected:  &martlet.ExpectedVersion{Condition: &martlet.ExpectedVersion_None{None: true}},
			Events: []*martlet.Event{
				newEvent("OrderPlaced", `{"item":"book","cents":1200}`),
				newEvent("OrderPaid", `{"cents":1200}`),
			},
		}},
	})
}

// end

// task: conflict

// request returns an append of one event to an order that has that version.
func (c *client) request(order []byte, version uint64, event *martlet.Event) *martlet.AppendRequest {
	return &martlet.AppendRequest{
		Tenant: c.tenant,
		Aggregates: []*martlet.AggregateAppend{{
			Aggregate: &martlet.AggregateName{Type: "order", Id: order},
			Expected:  &martlet.ExpectedVersion{Condition: &martlet.ExpectedVersion_Exact{Exact: version}},
			Events:    []*martlet.Event{event},
		}},
	}
}

// appendTo appends it; task "Retry safely" shows appendSafely.
func (c *client) appendTo(
	ctx context.Context, order []byte, version uint64, event *martlet.Event,
) (*martlet.AppendResponse, error) {
	return c.appendSafely(ctx, c.request(order, version, event))
}

// execute decides by an order's events, and decides again when somebody else has appended in the meantime.
func (c *client) execute(
	ctx context.Context, order []byte, decide func([]*martlet.RecordedEvent) (*martlet.Event, error),
) (*martlet.AppendResponse, error) {
	var history []*martlet.RecordedEvent
	for {
		// The first time everything, later only what is new.
		events, err := c.load(ctx, &martlet.LoadRequest{
			Tenant:       c.tenant,
			Aggregate:    &martlet.AggregateName{Type: "order", Id: order},
			AfterVersion: uint64(len(history)),
		})
		if err != nil {
			return nil, err
		}
		history = append(history, events...)
		event, err := decide(history)
		if err != nil {
			return nil, err
		}
		response, err := c.appendTo(ctx, order, uint64(len(history)), event)
		conflict := conflictOf(err)
		if conflict == nil {
			return response, err
		}
		fmt.Printf("conflict: expected version %d, found %d\n", conflict.Expected.GetExact(), conflict.Actual)
	}
}

// conflictOf returns the conflict that an append has failed with, or nil.
func conflictOf(err error) *martlet.VersionConflict {
	if call, _ := detailsOf(err); call.GetReason() == "VERSION_CONFLICT" {
		return call.Conflicts[0]
	}
	return nil
}

// detailsOf returns what the server says about a call's failure; nil if it says nothing.
func detailsOf(err error) (call *martlet.CallStatus, retry *errdetails.RetryInfo) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *martlet.CallStatus:
			call = detail
		case *errdetails.RetryInfo:
			retry = detail
		}
	}
	return call, retry
}

// end

// task: retry

// appendSafely sends the same request, with the same event ids, until the outcome is certain. If an earlier try was
// stored, the server answers what it answered then, and stores nothing.
func (c *client) appendSafely(
	ctx context.Context, request *martlet.AppendRequest,
) (*martlet.AppendResponse, error) {
	for failures := 0; ; failures++ {
		try, cancel := context.WithTimeout(ctx, 10*time.Second)
		response, err := c.appends.Append(try, request, grpc.WaitForReady(true))
		cancel()
		if err == nil || !isRetryable(err) {
			return response, err
		}
		fmt.Printf("retry after %v\n", status.Code(err))
		if err := sleep(ctx, pauseAfter(err, failures)); err != nil {
			return nil, err
		}
	}
}

// isRetryable tells whether the same call may succeed when it is sent again. If the server has not said anything, the
// connection has failed, or the deadline has passed.
func isRetryable(err error) bool {
	if call, retry := detailsOf(err); call != nil {
		return retry != nil
	}
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// sleep returns early, with an error, when the context ends.
func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end

// task: load

// load reads events of one aggregate, all from one consistent view.
func (c *client) load(ctx context.Context, request *martlet.LoadRequest) ([]*martlet.RecordedEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	stream, err := c.queries.Load(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	var events []*martlet.RecordedEvent
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		events = append(events, part.Events...)
	}
}

// printHistory loads an order as of a version, as of the position and the time of an append, and as it is now.
func (c *client) printHistory(ctx context.Context, order []byte, placed *martlet.AppendResponse) error {
	name := &martlet.AggregateName{Type: "order", Id: order}
	for _, one := range []struct {
		when    string
		request *martlet.LoadRequest
	}{
		{"as of version 1", &martlet.LoadRequest{Until: &martlet.LoadRequest_ToVersion{ToVersion: 1}}},
		{"as of its position", &martlet.LoadRequest{
			Until: &martlet.LoadRequest_AsOfPosition{AsOfPosition: placed.LastPosition}}},
		{"as of its time", &martlet.LoadRequest{
			Until: &martlet.LoadRequest_AsOfTimeMicros{AsOfTimeMicros: placed.RecordedAtMicros}}},
		{"now", &martlet.LoadRequest{}},
	} {
		one.request.Tenant, one.request.Aggregate = c.tenant, name
		events, err := c.load(ctx, one.request)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %d events\n", one.when, len(events))
	}
	return nil
}

// end

// task: subscribe

// A place is the event that a subscriber has handled last; the zero value is before the first event.
type place struct {
	position uint64
	eventID  []byte
}

// follow hands each event after a place to handle, once and in order, through lost connections and restarted servers.
// It returns when handle fails, when the context ends, or with an error that does not pass.
func (c *client) follow(ctx context.Context, last place, handle func(*martlet.RecordedEvent) error) error {
	for failures := 0; ; failures++ {
		before := last.position
		err := c.subscribe(ctx, &last, handle)
		if !isRetryable(err) {
			return err
		}
		if last.position > before {
			failures = 0
		}
		if err := sleep(ctx, pauseAfter(err, failures)); err != nil {
			return err
		}
		fmt.Printf("resume after %d\n", last.position)
	}
}

// subscribe reads one stream to its end, which is always an error. By the id of the last event, the server sees whether
// its events are still those that the subscriber knows: HISTORY_CHANGED if not.
func (c *client) subscribe(ctx context.Context, last *place, handle func(*martlet.RecordedEvent) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &martlet.SubscribeRequest{
		Tenant: c.tenant,
		Start:  &martlet.SubscribeRequest_AfterPosition{AfterPosition: last.position},
	}
	if last.position > 0 {
		request.LastSeen = &martlet.SeenEvent{Position: last.position, EventId: last.eventID}
	}
	stream, err := c.subscriptions.Subscribe(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, event := range message.Events {
			if err := handle(event); err != nil {
				return err
			}
			*last = place{event.Position, event.Event.Id}
		}
	}
}

// end

// task: project

const schema = `
	CREATE TABLE IF NOT EXISTS order_lines (position INTEGER, order_id BLOB, type TEXT);
	CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY, position INTEGER, event_id BLOB);
	INSERT OR IGNORE INTO progress VALUES (1, 0, x'');`

// project keeps a table in SQLite. What it writes for an event and the place after the event are one transaction, so a
// process that dies at any moment goes on exactly there.
func (c *client) project(ctx context.Context, database *sql.DB, done func(position uint64) error) error {
	if _, err := database.ExecContext(ctx, schema); err != nil {
		return err
	}
	var last place
	row := database.QueryRowContext(ctx, "SELECT position, event_id FROM progress")
	if err := row.Scan(&last.position, &last.eventID); err != nil {
		return err
	}
	fmt.Printf("start after %d\n", last.position)
	return c.follow(ctx, last, func(event *martlet.RecordedEvent) error {
		if err := projectEvent(ctx, database, event); err != nil {
			return err
		}
		return done(event.Position)
	})
}

func projectEvent(ctx context.Context, database *sql.DB, event *martlet.RecordedEvent) error {
	transaction, err := database.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer transaction.Rollback()
	moved, err := transaction.ExecContext(
		ctx, "UPDATE progress SET position = ?, event_id = ? WHERE position < ?",
		event.Position, event.Event.Id, event.Position)
	if err != nil {
		return err
	}
	if rows, err := moved.RowsAffected(); err != nil {
		return err
	} else if rows != 1 {
		return errors.New("another process has projected this event")
	}
	if _, err := transaction.ExecContext(
		ctx, "INSERT INTO order_lines VALUES (?, ?, ?)",
		event.Position, event.AggregateId, event.Event.Type); err != nil {
		return err
	}
	return transaction.Commit()
}

// end

// task: drain

// pauseAfter tells how long to wait after a failure, partly by chance, so that not all clients come back at once. A
// server that is drained finishes its calls and ends its streams with the reason DRAINING. That is no failure: the
// connection looks for a server again by itself, and calls wait until it has found one.
func pauseAfter(err error, failures int) time.Duration {
	call, retry := detailsOf(err)
	if call.GetReason() == "DRAINING" {
		fmt.Println("the server is draining")
		return 0
	}
	if failures > 6 {
		failures = 6
	}
	pause := 50 * time.Millisecond << failures
	if asked := retry.GetRetryDelay().AsDuration(); asked > pause {
		pause = asked
	}
	return pause/2 + time.Duration(mathrand.Int63n(int64(pause)))
}

// throughDrain appends and follows at the same time, while servers come and go.
func (c *client) throughDrain(ctx context.Context, order []byte, count uint64) error {
	followed := make(chan error, 1)
	go func() {
		followed <- c.follow(ctx, place{}, func(event *martlet.RecordedEvent) error {
			fmt.Printf("event %d\n", event.Position)
			if event.Position == count {
				return errEnough
			}
			return nil
		})
	}()
	for version := uint64(0); version < count; version++ {
		if _, err := c.appendTo(ctx, order, version, newEvent("LineAdded", `{}`)); err != nil {
			return err
		}
		fmt.Printf("appended version %d\n", version+1)
	}
	return <-followed
}

// end
