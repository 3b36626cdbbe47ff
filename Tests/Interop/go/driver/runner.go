package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	martlet "interop/martletv1"
)

const (
	callDeadlineMillis   = 30_000
	streamDeadlineMillis = 600_000
)

// An openStream is a stream of answers that steps read from.
type openStream struct {
	receive receive
	cancel  context.CancelFunc
}

// A runner carries out the steps of one case.
type runner struct {
	methods   map[string]method
	variables variables
	streams   map[string]openStream
}

func newRunner(methods map[string]method) *runner {
	return &runner{methods, variables{}, map[string]openStream{}}
}

// run carries out the steps; the error of the first one that fails has its number.
func (r *runner) run(steps []map[string]any) error {
	defer func() {
		for _, stream := range r.streams {
			stream.cancel()
		}
	}()
	for index, step := range steps {
		if err := r.carryOut(step); err != nil {
			return fmt.Errorf("step %d: %w", index+1, err)
		}
	}
	return nil
}

func (r *runner) carryOut(step map[string]any) error {
	if name, isOpen := step["open"].(string); isOpen {
		stream, err := r.open(step, streamDeadlineMillis)
		r.streams[name] = stream
		return err
	}
	if name, isRead := step["read"].(string); isRead {
		return r.read(r.streams[name].receive, step)
	}
	if name, isCancel := step["cancel"].(string); isCancel {
		r.streams[name].cancel()
		return nil
	}
	if _, isServer := step["server"]; isServer {
		filled, err := r.variables.fill(step, false)
		if err != nil {
			return err
		}
		answer, err := askServer(object(filled))
		if err != nil {
			return err
		}
		return r.variables.save(step["save"], answer)
	}
	giveUp := time.Now().Add(millis(step["within_millis"], 0))
	for {
		err := r.call(step)
		if err == nil || time.Now().After(giveUp) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// prepare returns the step's method, its request and its deadline.
func (r *runner) prepare(step map[string]any, deadlineMillis float64) (
	called method, request proto.Message, ctx context.Context, cancel context.CancelFunc, err error,
) {
	called, known := r.methods[step["call"].(string)]
	if !known {
		return called, nil, nil, nil, fmt.Errorf("%s is not in methods.go", step["call"])
	}
	filled, err := r.variables.fill(step["request"], false)
	if err != nil {
		return called, nil, nil, nil, err
	}
	text, err := json.Marshal(filled)
	if err != nil {
		return called, nil, nil, nil, err
	}
	request = called.newRequest()
	if err := protojson.Unmarshal(text, request); err != nil {
		return called, nil, nil, nil, err
	}
	ctx, cancel = context.WithTimeout(context.Background(), millis(step["deadline_millis"], deadlineMillis))
	return called, request, ctx, cancel, nil
}

// open starts a call that streams answers.
func (r *runner) open(step map[string]any, deadlineMillis float64) (openStream, error) {
	called, request, ctx, cancel, err := r.prepare(step, deadlineMillis)
	if err != nil {
		return openStream{}, err
	}
	receive, err := called.stream(ctx, request)
	if err != nil {
		cancel()
	}
	return openStream{receive, cancel}, err
}

func (r *runner) call(step map[string]any) error {
	called, request, ctx, cancel, err := r.prepare(step, callDeadlineMillis)
	if err != nil {
		return err
	}
	defer cancel()
	if called.stream != nil {
		receive, err := called.stream(ctx, request)
		if err != nil {
			return err
		}
		return r.read(receive, step)
	}
	reading, err := r.newReading(step)
	if err != nil {
		return err
	}
	answer, failure := called.unary(ctx, request)
	if failure == nil {
		if _, err := reading.take(answer); err != nil {
			return err
		}
	}
	return reading.finish(true, failure)
}

func (r *runner) read(receive receive, step map[string]any) error {
	reading, err := r.newReading(step)
	if err != nil {
		return err
	}
	for {
		message, err := receive()
		if errors.Is(err, io.EOF) {
			return reading.finish(true, nil)
		}
		if err != nil {
			return reading.finish(true, err)
		}
		isLast, err := reading.take(message)
		if err != nil {
			return err
		}
		if isLast {
			return reading.finish(false, nil)
		}
		time.Sleep(millis(step["pause_millis"], 0))
	}
}

func millis(value any, otherwise float64) time.Duration {
	if given, isGiven := value.(float64); isGiven {
		otherwise = given
	}
	return time.Duration(otherwise) * time.Millisecond
}

// A reading is the messages that one step reads: it counts and merges them, and says when they are enough.
type reading struct {
	runner   *runner
	step     map[string]any
	until    map[string]any
	merged   proto.Message
	events   float64
	position uint64
}

func (r *runner) newReading(step map[string]any) (*reading, error) {
	filled, err := r.variables.fill(step["until"], true)
	if err != nil {
		return nil, err
	}
	reading := &reading{runner: r, step: step, until: object(filled)}
	if after, isOrdered := step["positions_after"].(string); isOrdered {
		text, err := r.variables.text(after)
		if err != nil {
			return nil, err
		}
		if reading.position, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, err
		}
	}
	return reading, nil
}

// has tells whether the step has that member.
func (r *reading) has(name string) bool {
	_, isThere := r.step[name]
	return isThere
}

// take takes the next message, and tells whether it is the last one to read.
func (r *reading) take(message proto.Message) (isLast bool, err error) {
	if page, isPage := message.(interface {
		GetEvents() []*martlet.RecordedEvent
	}); isPage {
		for _, recorded := range page.GetEvents() {
			r.events++
			if !r.has("positions_after") {
				continue
			}
			if recorded.Position != r.position+1 {
				return false, fmt.Errorf("position %d came after %d", recorded.Position, r.position)
			}
			r.position++
		}
	}
	if r.has("answer") || r.has("save") {
		if r.merged == nil {
			r.merged = message.ProtoReflect().New().Interface()
		}
		proto.Merge(r.merged, message)
	}
	if count, isCount := r.until["events"].(float64); isCount {
		return r.events >= count, nil
	}
	if pattern, isPattern := r.until["message"]; isPattern {
		value, err := toJSON(message)
		return match(pattern, value, "") == nil, err
	}
	return false, nil
}

// finish checks what the step expects, after the last message or the end of the call.
func (r *reading) finish(hasEnded bool, failure error) error {
	if hasEnded {
		if r.until != nil {
			return fmt.Errorf("the stream ended before what was waited for: %v", failure)
		}
		expected, err := r.runner.variables.fill(r.step["status"], true)
		if err != nil {
			return err
		}
		if err := checkEnd(object(expected), failure); err != nil {
			return err
		}
	}
	if count, isCounted := r.step["count"]; isCounted && count != r.events {
		return fmt.Errorf("%v events came, not %v", r.events, count)
	}
	if !r.has("answer") && !r.has("save") {
		return nil
	}
	var answer any
	if r.merged != nil {
		var err error
		if answer, err = toJSON(r.merged); err != nil {
			return err
		}
	}
	if r.has("answer") {
		pattern, err := r.runner.variables.fill(r.step["answer"], true)
		if err != nil {
			return err
		}
		if err := match(pattern, answer, ""); err != nil {
			return err
		}
	}
	return r.runner.variables.save(r.step["save"], answer)
}
