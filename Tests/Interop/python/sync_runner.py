"""Carries out a case's steps with grpcio's blocking calls."""

import time

import grpc
from google.protobuf import json_format

from case_language import Failure, Reading, Variables
from martlet_grpc import credentials, methods


class SyncRunner:
    def __init__(self, target, ca, ask_server):
        self.channel = grpc.secure_channel(target, credentials(ca))
        self.methods = methods(self.channel)
        self.ask_server = ask_server

    def run(self, steps):
        """Carries out the steps; raises what the first failing one comes to, with its number."""
        self.variables, self.streams = Variables(), {}
        try:
            for number, step in enumerate(steps, 1):
                try:
                    self.carry_out(step)
                except Exception as failure:
                    raise Failure(f"step {number}: {failure}") from failure
        finally:
            for stream in self.streams.values():
                stream.cancel()

    def carry_out(self, step):
        if "open" in step:
            self.streams[step["open"]] = self.start(step, 600_000)
        elif "read" in step:
            self.read(self.streams[step["read"]], step)
        elif "cancel" in step:
            self.streams[step["cancel"]].cancel()
        elif "server" in step:
            self.variables.save(step.get("save", {}), self.ask_server(self.variables.fill(step)))
        else:
            give_up = time.monotonic() + step.get("within_millis", 0) / 1000
            while True:
                try:
                    return self.call(step)
                except Failure:
                    if time.monotonic() >= give_up:
                        raise
                    time.sleep(0.05)

    def start(self, step, deadline_millis):
        """Begins a call; the answer to a call that streams nothing."""
        method = self.methods[step["call"]]
        request = json_format.ParseDict(self.variables.fill(step["request"]), method.request_class())
        return method.call(
            iter([request]) if method.streams_requests else request,
            timeout=step.get("deadline_millis", deadline_millis) / 1000,
            # A server that has just been started again may not be there yet.
            wait_for_ready=True,
        )

    def call(self, step):
        if self.methods[step["call"]].streams_responses:
            return self.read(self.start(step, 30_000), step)
        reading = Reading(step, self.variables)
        try:
            reading.take(self.start(step, 30_000))
        except grpc.RpcError as error:
            return reading.finish(True, error)
        reading.finish(True)

    def read(self, stream, step):
        reading = Reading(step, self.variables)
        try:
            for message in stream:
                if reading.take(message):
                    return reading.finish(False)
                time.sleep(reading.pause_seconds)
        except grpc.RpcError as error:
            return reading.finish(True, error)
        reading.finish(True)
