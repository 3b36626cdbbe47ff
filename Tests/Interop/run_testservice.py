"""Has programs run gRPC's interoperability cases against grpc.testing.TestService, and prints a table.

    run_testservice.py --languages python,go --certs Certs/dev [--server .build/debug/InteropServer] [CASE...]

The exit code is 1 if a case fails.
"""

import argparse
import pathlib
import subprocess
import sys

from table import print_table
from testservice import CASES

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = {
    "python": [sys.executable, str(HERE / "testservice.py")],
    "go": [str(HERE / "../../.build-interop/go/testservice")],
}
# A program that has not ended after so long is stopped.
PROGRAM_SECONDS = 900


def run(language, options):
    """What each case came to: an empty text where it passed."""
    certs = options.certs
    files = [options.server, certs / "server.pem", certs / "server.key", certs / "ca.pem"]
    process = subprocess.run(
        [*PROGRAMS[language], *map(str, files), *options.cases],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PROGRAM_SECONDS,
    )
    results = {}
    for line in process.stdout.splitlines():
        print(f"{language} {line}", flush=True)
        name, outcome = line.split(": ", 1)
        results[name] = "" if outcome == "passed" else outcome
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--languages", required=True, type=lambda text: text.split(","))
    parser.add_argument("--certs", required=True, type=pathlib.Path)
    parser.add_argument("--server", default=".build/debug/InteropServer")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    names = [case.__name__ for case in CASES if not options.cases or case.__name__ in options.cases]
    if not names or len(names) < len(options.cases):
        parser.error("there is no such case; there are " + ", ".join(case.__name__ for case in CASES))
    results = {language: run(language, options) for language in options.languages if language in PROGRAMS}
    sys.exit(bool(results) and print_table("case", names, results) > 0)


main()
