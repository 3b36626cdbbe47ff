"""Carries out a case's steps with grpcio's calls for asyncio."""

import asyncio
import time

import grpc
from google.protobuf import json_format

from case_language import Failure, Reading, Variables
from martlet_grpc import credentials, methods


class AsyncioRunner:
    def __init__(self, target, ca, ask_server):
        self.channel = grpc.aio.secure_channel(target, credentials(ca))
        self.methods = methods(self.channel)
        self.ask_server = ask_server

    async def run(self, steps):
        """Carries out the steps; raises what the first failing one comes to, with its number."""
        self.variables, self.streams = Variables(), {}
        try:
            for number, step in enumerate(steps, 1):
                try:
                    await self.carry_out(step)
                except Exception as failure:
                    raise Failure(f"step {number}: {failure}") from failure
        finally:
            for stream in self.streams.values():
                stream.cancel()

    async def carry_out(self, step):
        if "open" in step:
            self.streams[step["open"]] = self.start(step, 600_000)
        elif "read" in step:
            await self.read(self.streams[step["read"]], step)
        elif "cancel" in step:
            self.streams[step["cancel"]].cancel()
        elif "server" in step:
            answer = await asyncio.to_thread(self.ask_server, self.variables.fill(step))
            self.variables.save(step.get("save", {}), answer)
        else:
            give_up = time.monotonic() + step.get("within_millis", 0) / 1000
            while True:
                try:
                    return await self.call(step)
                except Failure:
                    if time.monotonic() >= give_up:
                        raise
                    await asyncio.sleep(0.05)

    def start(self, step, deadline_millis):
        """Begins a call."""
        method = self.methods[step["call"]]
        request = json_format.ParseDict(self.variables.fill(step["request"]), method.request_class())
        return method.call(
            [request] if method.streams_requests else request,
            timeout=step.get("deadline_millis", deadline_millis) / 1000,
            # A server that has just been started again may not be there yet.
            wait_for_ready=True,
        )

    async def call(self, step):
        if self.methods[step["call"]].streams_responses:
            return await self.read(self.start(step, 30_000), step)
        reading = Reading(step, self.variables)
        try:
            reading.take(await self.start(step, 30_000))
        except grpc.aio.AioRpcError as error:
            return reading.finish(True, error)
        reading.finish(True)

    async def read(self, stream, step):
        reading = Reading(step, self.variables)
        try:
            while (message := await stream.read()) is not grpc.aio.EOF:
                if reading.take(message):
                    return reading.finish(False)
                await asyncio.sleep(reading.pause_seconds)
        except grpc.aio.AioRpcError as error:
            return reading.finish(True, error)
        except asyncio.CancelledError:
            # What reading a cancelled call comes to; a cancelled task has no code.
            if not stream.cancelled():
                raise
            return reading.finish(True, Cancelled())
        reading.finish(True)


class Cancelled:
    """The end of a call that this side has cancelled."""

    def code(self):
        return grpc.StatusCode.CANCELLED

    def details(self):
        return "cancelled by the client"

    def trailing_metadata(self):
        return ()
