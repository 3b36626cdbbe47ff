"""Carries out cases with grpcio; Tests/Interop/cases/README.md describes them, and run_cases.py starts this.

    driver.py --target HOST:PORT --ca FILE [--asyncio] CASE...

Writes a line of JSON for each case, and for each thing asked of run_cases.py, whose answers come as lines of JSON.
"""

import argparse
import asyncio
import json
import pathlib
import sys

from asyncio_runner import AsyncioRunner
from case_language import Failure
from sync_runner import SyncRunner


def say(line):
    print(json.dumps(line), flush=True)


def ask_server(step):
    say({"ask": step})
    answer = json.loads(sys.stdin.readline())
    if "error" in answer:
        raise Failure(answer["error"])
    return answer


def result(path, failure=None):
    say({"case": path.stem, "passed": failure is None, "why": "" if failure is None else str(failure)})


def steps(path):
    return json.loads(path.read_text(encoding="utf-8"))["steps"]


def run(options):
    runner = SyncRunner(options.target, options.ca, ask_server)
    for path in options.cases:
        try:
            runner.run(steps(path))
            result(path)
        except Failure as failure:
            result(path, failure)


async def run_asyncio(options):
    runner = AsyncioRunner(options.target, options.ca, ask_server)
    for path in options.cases:
        try:
            await runner.run(steps(path))
            result(path)
        except Failure as failure:
            result(path, failure)


parser = argparse.ArgumentParser()
parser.add_argument("--target", required=True)
parser.add_argument("--ca", required=True)
parser.add_argument("--asyncio", action="store_true")
parser.add_argument("cases", nargs="+", type=pathlib.Path)
arguments = parser.parse_args()
asyncio.run(run_asyncio(arguments)) if arguments.asyncio else run(arguments)
