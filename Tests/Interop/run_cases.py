"""Starts a server, has drivers carry out the cases of Tests/Interop/cases, and prints a table of languages and cases.

    run_cases.py --languages python,asyncio,go --certs Certs/dev [--server .build/debug/martlet]
                 [--storage sqlite:FILE | --storage postgres://...] [CASE...]

Without --storage the server keeps its events in a folder that is removed afterwards. The exit code is 1 if a case
fails.
"""

import argparse
import json
import os
import pathlib
import selectors
import subprocess
import sys
import tempfile
import time

from server import CaseServer
from table import print_table

HERE = pathlib.Path(__file__).resolve().parent
DRIVERS = {
    "python": [sys.executable, str(HERE / "python" / "driver.py")],
    "asyncio": [sys.executable, str(HERE / "python" / "driver.py"), "--asyncio"],
    "go": [str(HERE / "go" / "run")],
    "cpp": [str(HERE / "cpp" / "run")],
    "ruby": [str(HERE / "ruby" / "run")],
    "java": [str(HERE / "java" / "run")],
}
# A driver that says nothing for so long is stopped.
SILENCE_SECONDS = 700


def run_driver(language, server, cases):
    """What each case came to: an empty text where it passed."""
    results = {}
    while left := [path for path in cases if path.stem not in results]:
        process = subprocess.Popen(
            [*DRIVERS[language], "--target", server.target, "--ca", server.ca, *map(str, left)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        began = time.monotonic()
        failure = ""
        for line in lines_of(process):
            said = json.loads(line)
            if "ask" in said:
                process.stdin.write(json.dumps(server.answer(said["ask"])).encode() + b"\n")
                process.stdin.flush()
                continue
            results[said["case"]] = failure = "" if said["passed"] else said["why"]
            took, began = time.monotonic() - began, time.monotonic()
            print(f"{language} {said['case']}: {failure or 'passed'} ({took:.1f} s)", flush=True)
            if failure:
                break
        process.kill() if failure else process.stdin.close()
        code = process.wait()
        if not failure and left[-1].stem not in results:
            broken = next(path.stem for path in left if path.stem not in results)
            results[broken] = failure = f"the driver ended with {code}"
            print(f"{language} {broken}: {failure}", flush=True)
        if failure:
            server.recover()
    return results


def lines_of(process):
    """The lines that a driver writes; it is stopped if it is silent for too long."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        rest = b""
        while True:
            if not selector.select(SILENCE_SECONDS):
                process.kill()
                return
            piece = os.read(process.stdout.fileno(), 65_536)
            if not piece:
                return
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--languages", required=True, type=lambda text: text.split(","))
    parser.add_argument("--certs", required=True, type=pathlib.Path)
    parser.add_argument("--server", default=".build/debug/martlet")
    parser.add_argument("--storage")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    found = sorted((HERE / "cases").glob("*.json"))
    cases = [path for path in found if not options.cases or path.stem in options.cases]
    if not cases or len(cases) < len(options.cases):
        parser.error("there is no such case; there are " + ", ".join(path.stem for path in found))
    with tempfile.TemporaryDirectory() as folder:
        server = CaseServer(options.server, options.certs, options.storage or f"sqlite:{folder}/martlet.db")
        try:
            results = {language: run_driver(language, server, cases) for language in options.languages}
        finally:
            server.kill()
    sys.exit(print_table("case", [path.stem for path in cases], results) > 0)


main()
