"""Tries each clause of RFC 9113 and RFC 7541 that concerns a server, prints a table, and exits with 1 where one fails.

    python -m http2 --target 127.0.0.1:7311 --ca ca.pem [--rounds 20] [--only NAME]
    python -m http2 floods --target 127.0.0.1:7311 --ca ca.pem [--seconds 5] [--only NAME]

A clause that the server is known not to keep is in deviations.py; one of those that it keeps after all fails the run.
"""

import argparse
import collections
import sys
import time

from . import clauses, connection, field_blocks, frames, messages, plain  # noqa: F401: they register the tests
from . import document, http1
from .deviations import DEVIATIONS
from .peer import Peer


def run(test, target, ca):
    """What was seen, and whether that is as it should be."""
    try:
        with Peer(target, ca, start=test.options.get("start", True)) as peer:
            outcome = test.body(peer)
            alone = test.options.get("alone") or not test.options.get("start", True)
            if not alone and not outcome.startswith(("GOAWAY", "close", "last stream")) and not peer.lives():
                outcome += ", and no calls after it"
    except Exception as error:  # noqa: BLE001: whatever it is, it belongs into the table
        outcome = f"{type(error).__name__}: {error}"
    known = DEVIATIONS.get(test.name)
    if known is None:
        return outcome, outcome in test.expected
    # What is put right must leave the list.
    return outcome, outcome == known.instead and outcome not in test.expected


def main():
    if sys.argv[1:2] == ["floods"]:
        from . import floods
        return floods.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="http2", description=__doc__.splitlines()[0])
    parser.add_argument("--target", required=True, help="address and port of the server")
    parser.add_argument("--ca", required=True, help="file with the certificate that the server's is checked by")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", help="tests whose name has this in it")
    parser.add_argument("--document", help="Docs/HTTP2.md, whose table is compared with what was seen")
    parser.add_argument("--write", action="store_true", help="write the table instead")
    options = parser.parse_args()

    tests = [test for test in clauses.TESTS if not options.only or options.only in test.name]
    unknown = set(DEVIATIONS) - {test.name for test in clauses.TESTS}
    assert not unknown, f"deviations of no test: {unknown}"
    failures = collections.Counter()
    seen = {}
    began = time.monotonic()
    for number in range(options.rounds):
        for test in tests:
            started = time.monotonic()
            outcome, passed = run(test, options.target, options.ca)
            took = time.monotonic() - started
            seen[test.name] = outcome
            failures[test.name] += not passed
            if number == 0 or not passed:
                mark = "deviates" if passed and test.name in DEVIATIONS else "ok" if passed else "FAILED"
                print(f"{mark:8} {test.clause:18} {test.name:40} {outcome}{f' ({took:.1f} s)' if took > 1 else ''}", flush=True)
                if not passed:
                    print(f"{'':8} {test.sent}; expected: {' | '.join(test.expected)}")
                    if test.name in DEVIATIONS:
                        print(f"{'':8} in deviations.py as: {DEVIATIONS[test.name].instead}")
    for text in ([] if options.only else http1.faults(options.target, options.ca)):
        failures[text] += 1
        print(f"FAILED   HTTP/1.1: {text}")
    if options.document and not options.only:
        if options.write:
            document.write(options.document, tests, seen)
        elif not document.agrees(options.document, tests, seen):
            failures["document"] += 1
            print(f"FAILED   {options.document} does not say what was seen: run again with --write")
    failed = sum(1 for count in failures.values() if count)
    print(f"{len(tests)} clauses, {sum(1 for test in tests if test.name in DEVIATIONS)} known deviations, {failed} failed, "
          f"{options.rounds} rounds, {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


sys.exit(main())
