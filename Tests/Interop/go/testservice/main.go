// The interoperability cases of gRPC with grpc-go, against grpc.testing.TestService on Martlet's own gRPC layer:
//
//	testservice SERVER CERTIFICATE KEY CA [CASE...]
//
// It starts the server, a program that says `port N`, prints a line for each case, and exits with 1 if one fails.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	grpctest "interop/grpctesting"
)

// A case has as much time as this, on a machine that is busy with other things too.
const caseTimeout = 2 * time.Minute

// stubs are the services' stubs, over one connection.
type stubs struct {
	grpctest.TestServiceClient
	unimplemented grpctest.UnimplementedServiceClient
}

// startServer starts the server; it ends when its input is closed.
func startServer(program, certificate, key string) (server *exec.Cmd, input io.Closer, port int, err error) {
	server = exec.Command(program, certificate, key)
	server.Stderr = os.Stderr
	pipe, err := server.StdinPipe()
	if err != nil {
		return nil, nil, 0, err
	}
	output, err := server.StdoutPipe()
	if err != nil {
		return nil, nil, 0, err
	}
	if err := server.Start(); err != nil {
		return nil, nil, 0, err
	}
	_, err = fmt.Fscanf(output, "port %d\n", &port)
	return server, pipe, port, err
}

func wanted(name string, names []string) bool {
	for _, one := range names {
		if one == name {
			return true
		}
	}
	return len(names) == 0
}

// run carries out the cases of these names, or all, and tells how many failed.
func run(target, ca string, names []string) (failed int, err error) {
	tls, err := credentials.NewClientTLSFromFile(ca, "")
	if err != nil {
		return 0, err
	}
	channel, err := grpc.Dial(
		target,
		grpc.WithTransportCredentials(tls),
		grpc.WithStatsHandler(sizes{}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return 0, err
	}
	defer channel.Close()
	stub := stubs{grpctest.NewTestServiceClient(channel), grpctest.NewUnimplementedServiceClient(channel)}
	for _, one := range cases {
		if !wanted(one.name, names) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), caseTimeout)
		if err := one.run(ctx, stub); err != nil {
			failed++
			fmt.Printf("%s: FAILED: %v\n", one.name, err)
		} else {
			fmt.Printf("%s: passed\n", one.name)
		}
		cancel()
	}
	return failed, nil
}

func main() {
	arguments := os.Args[1:]
	if len(arguments) < 4 {
		log.Fatal("usage: testservice SERVER CERTIFICATE KEY CA [CASE...]")
	}
	server, input, port, err := startServer(arguments[0], arguments[1], arguments[2])
	if err != nil {
		log.Fatal(err)
	}
	failed, err := run(fmt.Sprintf("localhost:%d", port), arguments[3], arguments[4:])
	input.Close()
	server.Wait()
	if err != nil {
		log.Fatal(err)
	}
	if failed > 0 {
		os.Exit(1)
	}
}
