// The tasks of Docs/CLIENTS.md with grpc-go; Tests/Interop/run_tasks.py starts this once for each of them:
//
//	tasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]
//
// The parts between `task:` and `end` are those that the page shows.
package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3"
	martlet "interop/martletv1"
)

// A task has as much time as this, on a machine that is busy with other things too.
const taskTimeout = 5 * time.Minute

// errEnough ends a subscription that has come as far as it was asked to.
var errEnough = errors.New("all events have come")

func appendTask(ctx context.Context, c *client) error {
	response, err := c.placeOrder(ctx, newID())
	if err != nil {
		return err
	}
	order := response.Aggregates[0]
	fmt.Printf("appended versions %d to %d at positions %d to %d\n",
		order.FirstVersion, order.LastVersion, response.FirstPosition, response.LastPosition)
	return nil
}

// conflictTask has somebody else append between the load and the append of the first try.
func conflictTask(ctx context.Context, c *client) error {
	order := newID()
	if _, err := c.appendTo(ctx, order, 0, newEvent("OrderPlaced", `{"cents":1200}`)); err != nil {
		return err
	}
	tries := 0
	response, err := c.execute(ctx, order, func(history []*martlet.RecordedEvent) (*martlet.Event, error) {
		if tries++; tries == 1 {
			if _, err := c.appendTo(ctx, order, 1, newEvent("OrderPaid", `{"cents":1200}`)); err != nil {
				return nil, err
			}
		}
		return newEvent("OrderShipped", fmt.Sprintf(`{"after":%d}`, len(history))), nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("appended version %d\n", response.Aggregates[0].LastVersion)
	return nil
}

// retryTask appends when it is told to; the answer to its first try does not arrive.
func retryTask(ctx context.Context, c *client) error {
	// A call before, so that the connection is there.
	if _, err := c.admin.GetServerInfo(ctx, &martlet.GetServerInfoRequest{}); err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	response, err := c.appendSafely(ctx, c.request(newID(), 0, newEvent("OrderPlaced", `{"cents":1200}`)))
	if err != nil {
		return err
	}
	fmt.Printf("stored as version %d, replayed: %t\n", response.Aggregates[0].LastVersion, response.Replayed)
	return nil
}

func loadTask(ctx context.Context, c *client) error {
	order := newID()
	placed, err := c.placeOrder(ctx, order)
	if err != nil {
		return err
	}
	if _, err := c.appendTo(ctx, order, 2, newEvent("OrderShipped", `{}`)); err != nil {
		return err
	}
	return c.printHistory(ctx, order, placed)
}

func subscribeTask(ctx context.Context, c *client, count uint64) error {
	return c.follow(ctx, place{}, func(event *martlet.RecordedEvent) error {
		fmt.Printf("event %d\n", event.Position)
		if event.Position == count {
			return errEnough
		}
		return nil
	})
}

func projectTask(ctx context.Context, c *client, count uint64, path string) error {
	database, err := sql.Open("sqlite3", path)
	if err != nil {
		return err
	}
	defer database.Close()
	return c.project(ctx, database, func(position uint64) error {
		fmt.Printf("projected %d\n", position)
		if position == count {
			return errEnough
		}
		return nil
	})
}

func run(ctx context.Context, arguments []string) error {
	tenant, err := hex.DecodeString(strings.ReplaceAll(arguments[4], "-", ""))
	if err != nil {
		return err
	}
	c, err := connect(ctx, arguments[0], arguments[1], arguments[2], arguments[3], tenant)
	if err != nil {
		return err
	}
	defer c.connection.Close()
	count := uint64(0)
	if len(arguments) > 6 {
		if count, err = strconv.ParseUint(arguments[6], 10, 64); err != nil {
			return err
		}
	}
	switch arguments[5] {
	case "connect":
		info, err := c.admin.GetServerInfo(ctx, &martlet.GetServerInfoRequest{})
		if err == nil && !bytes.Equal(info.Tenants[0], tenant) {
			err = fmt.Errorf("the tenants are %x", info.Tenants)
		}
		return err
	case "append":
		return appendTask(ctx, c)
	case "conflict":
		return conflictTask(ctx, c)
	case "retry":
		return retryTask(ctx, c)
	case "load":
		return loadTask(ctx, c)
	case "subscribe":
		return subscribeTask(ctx, c, count)
	case "project":
		return projectTask(ctx, c, count, arguments[7])
	case "drain":
		return c.throughDrain(ctx, newID(), count)
	}
	return fmt.Errorf("there is no task %s", arguments[5])
}

func main() {
	if len(os.Args) < 7 {
		log.Fatal("usage: tasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), taskTimeout)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, errEnough) {
		log.Fatal(err)
	}
}
