# make run and make test do all the set-up they need; see `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# What tests need beside the build: a PostgreSQL of their own, and Python for the interop client.
TEST_ENV = MARTLET_TEST_PYTHON=$(CURDIR)/.build-python/bin/python \
	MARTLET_TEST_PYTHON_PATH=$(CURDIR)/.build-python/generated .ci/with-postgres --unsynced
# One test after the other: many hold peers to times, which a machine with all of them at once would not keep, and
# Foundation's Process reads beyond its buffer when more than about 1,300 files are open in the process that starts one.
# Tests that start the real binary say nothing about races and memory inside the test process.
UNIT_ONLY = --skip ProcessTests --skip ArchitectureTests --skip AttackTests
# Attacks that measure what others feel meanwhile: they want a quiet machine, and a target of their own.
TIMED_ATTACKS = AttackTests.FairnessTests AttackTests.LoopTimeTests AttackTests.MemoryTests

.PHONY: help run test test-long example test-attacks test-log test-groups test-schedules test-bits test-crowd test-steps test-tsan test-asan fuzz demo demo-projections bench test-bench-drivers bench-scale bench-profile bench-attack bench-before bench-upcast bench-curve bench-rehydration bench-consume lint lint-protos freeze-protos format protos certs clean test-transfers test-parked test-progress test-kills bench-rebuild interop test-http2 docs
comma := ,

help: ## Show this
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: certs ## Install what is missing, build in release, serve on SQLite at 127.0.0.1:7311
	swift build -c release --product martlet
	exec .build/release/martlet serve --cert Certs/dev/server.pem --key Certs/dev/server.key

test: setup-tests lint lint-protos ## Install what is missing, check everything, run every test
	.ci/check-protos
	.ci/test-lint-protos
	.ci/test-extract-snippets
	swift build --build-tests
	$(TEST_ENV) .ci/report-failures swift test --skip-build --no-parallel $(TIMED_ATTACKS:%=--skip %)
	$(MAKE) example

test-long: setup-tests ## Run every test with many more rounds of what is random
	swift build --build-tests
	MARTLET_TEST_LONG=1 MARTLET_TEST_BITS=1000 MARTLET_TEST_PASTS=17 $(TEST_ENV) \
		.ci/report-failures swift test --skip-build --no-parallel $(TIMED_ATTACKS:%=--skip %)

test-attacks: setup-tests ## Attack a server through the wire, with bounds on what others feel; on a quiet machine
	swift build --build-tests
	$(TEST_ENV) swift test --skip-build --no-parallel --filter AttackTests

test-crowd: setup-tests ## Follow 20,000 tenants on PostgreSQL while another server commits to 1,000 of them at once
	swift build --build-tests
	MARTLET_TEST_CROWD=20000 MARTLET_TEST_CROWD_ROUNDS=7 $(TEST_ENV) \
		swift test --skip-build --no-parallel --filter ForeignCrowdTests

test-steps: setup-tests ## What an append, a load and a live event cost a release build: allocations, copies, hops
	swift build -c release --product martlet
	swift build --build-tests
	MARTLET_TEST_BINARY=.build/release/martlet swift test --skip-build --filter 'StepTests|SyncTests'

test-log: setup-tests ## Hold SQLite's write-ahead log to its bound beside six filtered readers, for a minute
	swift build --build-tests
	MARTLET_TEST_LOG_SECONDS=60 swift test --skip-build --no-parallel --filter LogBoundTests

test-groups: setup-tests ## Kill, stop and add processes of a group of 32 over 10,000 keys; EVENTS=1000000
	swift build --build-tests
	MARTLET_TEST_GROUP_EVENTS=$(or $(EVENTS),1000000) MARTLET_TEST_GROUP_KEYS=10000 MARTLET_TEST_GROUP_WORKERS=32 \
		MARTLET_TEST_GROUP_PACE=2000 $(TEST_ENV) swift test --skip-build --no-parallel --filter GroupKillTests

test-schedules: setup-tests ## Kill servers while 10,000 schedules are due within 10 s, beside a bare timer; on a quiet machine
	swift build -c release --product martlet
	swift build --build-tests
	MARTLET_TEST_BINARY=.build/release/martlet MARTLET_TEST_SCHEDULE_COUNT=10000 MARTLET_TEST_SCHEDULE_MILLIS=10000 \
		MARTLET_TEST_SCHEDULE_LATENESS=100 $(TEST_ENV) swift test --skip-build --no-parallel --filter ScheduleKillTests
test-transfers: setup-tests ## Run a saga over 10,000 transfers while its runners and the server are killed; TRANSFERS=10000
	swift build --build-tests
	MARTLET_TEST_TRANSFERS=$(or $(TRANSFERS),10000) swift test --skip-build --no-parallel --filter TransferKillTests

test-kills: setup-tests ## Kill workers and servers while 1,000,000 events are projected, in Swift and in Python; EVENTS=200000
	swift build -c release --product martlet
	swift build -c release --product Projector
	swift build --build-tests
	MARTLET_TEST_BINARY=.build/release/martlet MARTLET_TEST_KILL_EVENTS=$(or $(EVENTS),1000000) \
		MARTLET_TEST_PYTHON_EVENTS=$(or $(EVENTS),1000000) $(TEST_ENV) \
		swift test --skip-build --no-parallel --filter 'ProjectionKillTests|PythonProjectionTests'

test-parked: setup-tests ## Fail on one event in 1,000, retry the keys that were parked; EVENTS=1000000
	swift build --build-tests
	MARTLET_TEST_PARKED_EVENTS=$(or $(EVENTS),1000000) $(TEST_ENV) \
		swift test --skip-build --no-parallel --filter FailingHandlerTests

test-http2: setup-tests ## Try each clause of HTTP/2 many times, and flood a release build; ROUNDS=20
	swift build -c release --product martlet
	swift build --build-tests
	MARTLET_TEST_BINARY=.build/release/martlet MARTLET_TEST_HTTP2_ROUNDS=$(or $(ROUNDS),20) $(TEST_ENV) \
		swift test --skip-build --no-parallel --filter HTTP2ConformanceTests

test-progress: setup-tests ## An hour of 1,000 consumers on PostgreSQL: syncs, sizes of tables, appends beside them; SECONDS=3600
	swift build --build-tests
	MARTLET_TEST_PROGRESS_SECONDS=$(or $(SECONDS),3600) $(TEST_ENV) \
		swift test --skip-build --no-parallel --filter ProgressTableTests

test-bits: setup-tests ## Flip 1,000 bits each in SQLite's file, PostgreSQL's files and its values
	swift build --build-tests
	MARTLET_TEST_BITS=1000 $(TEST_ENV) swift test --skip-build --no-parallel --filter 'BitFlipTests|DatabaseCheckTests'

LANGUAGES ?= python,asyncio,go,cpp,ruby,java,swift

interop: certs setup-tests ## Have stock gRPC clients carry out the cases, and run what Docs/CLIENTS.md shows; LANGUAGES=go,java CASES=drain
	@.ci/interop-setup
	swift build --product martlet
	swift build --product InteropServer
	swift build --product InteropTasks
	Tests/Interop/run $(LANGUAGES) $(CASES)

example: setup-tests ## Build the example and run its tests
	swift test --package-path Examples/Bank --scratch-path .build-example
	swift build --product martlet
	.ci/example-race

test-tsan: setup-tests ## Run the unit tests under the thread sanitizer
	swift build --build-tests --sanitize=thread --scratch-path .build-tsan
	TSAN_OPTIONS=suppressions=$(CURDIR)/Tests/tsan.suppressions $(TEST_ENV) \
		swift test --skip-build --sanitize=thread --scratch-path .build-tsan --no-parallel $(UNIT_ONLY)

test-asan: setup-tests ## Run the unit tests under the address sanitizer
	swift build --build-tests --sanitize=address --scratch-path .build-asan
	LSAN_OPTIONS=suppressions=$(CURDIR)/Tests/lsan.suppressions $(TEST_ENV) \
		swift test --skip-build --sanitize=address --scratch-path .build-asan --no-parallel $(UNIT_ONLY)

MINUTES ?= 1

fuzz: setup-fuzz ## Fuzz each target for MINUTES (1) minutes, print what they reached
	MARTLET_FUZZ=1 swift build -c release --sanitize=address --scratch-path .build-fuzz --product martlet-fuzz
	Fuzz/run --minutes $(MINUTES) $(FUZZ)

demo: certs ## Import this machine's package history while a subscriber counts it
	swift build -c release --product martlet
	.ci/demo

demo-projections: setup-tests ## Run the bank: transfers, and read models in Swift and Python; SECONDS=60
	swift build -c release --product martlet
	swift build -c release --product bank
	.ci/with-postgres .ci/demo-projections $(or $(SECONDS),60)

bench: certs setup-bench ## Compare both engines with UmaDB, Redis Streams and plain PostgreSQL, side by side
	swift build -c release --product martlet
	.ci/with-postgres Benchmarks/run $(BENCH)

test-bench-drivers: certs setup-bench ## Plant wrong answers that the drivers of `make bench` must find
	swift build --product martlet
	Benchmarks/test-drivers

bench-scale: certs setup ## How cost grows with history, aggregates, tenants, subscriptions and payloads
	swift build -c release --product martlet
	Benchmarks/scale $(BENCH)

bench-profile: certs setup ## Flame graphs and allocations of the server's paths (root, Linux' perf)
	swift build -c release --product martlet
	Benchmarks/profile --allocations

bench-attack: certs setup-tests ## What one tenant's attacks do to another tenant's times, and to the server's memory
	swift build -c release --product martlet
	.build-python/bin/python Benchmarks/attack $(BENCH)

bench-before: certs ## This checkout's server beside one of before: BEFORE=path/to/martlet
	swift build -c release --product martlet
	Benchmarks/before $(BEFORE) $(BENCH)

bench-upcast: certs ## What an upcaster of five steps adds to the CPU time of a delivery to 100 subscribers
	swift build -c release --product martlet
	Benchmarks/upcast $(BENCH)

bench-curve: certs setup-tests ## How appends slow down with aggregates and tenants touched at random, on both engines
	swift build -c release --product martlet
	@code=0; Benchmarks/curve $(BENCH) || code=$$?; \
		.ci/with-postgres Benchmarks/curve --engine postgresql $(BENCH) || code=$$?; exit $$code

bench-rehydration: certs setup-tests ## Figures of snapshots and upcasting on both engines
	swift build -c release --product martlet
	.ci/with-postgres .ci/bench-rehydration

bench-consume: certs setup-tests ## Groups of 1, 4 and 16 workers beside a subscriber on both engines
	swift build -c release --product martlet
	.ci/with-postgres .ci/bench-consume $(BENCH)

bench-rebuild: certs setup-tests ## What a projection's rebuild does to live appends and deliveries, on both engines
	swift build -c release --product martlet
	swift build -c release --product Projector
	.ci/with-postgres Benchmarks/rebuild $(BENCH)

MICRO = MARTLET_BENCHMARKS=1 swift package --allow-writing-to-package-directory benchmark
MICRO_THRESHOLDS = --path Benchmarks/Micro/Thresholds --target Micro --no-progress

.PHONY: build-micro bench-micro bench-micro-check bench-micro-update
build-micro: setup ## Compile the benchmarks of single layers, which no other build does
	MARTLET_BENCHMARKS=1 swift build --product Micro

bench-micro: setup ## CPU and allocations of single layers
	$(MICRO) --target Micro --no-progress

bench-micro-check: setup ## The same, held against the thresholds in Benchmarks/Micro
	$(MICRO) thresholds check $(MICRO_THRESHOLDS)

bench-micro-update: setup ## Write the figures of this machine to those thresholds
	$(MICRO) thresholds update $(MICRO_THRESHOLDS)

lint: ## Check the format, and that the parts of programs in Docs/CLIENTS.md are those programs'
	swift format lint --strict --recursive Sources Tests Examples Benchmarks Package.swift
	.ci/extract-snippets --check

lint-protos: setup-tests ## Lint the messages, and check that what is frozen of them has not changed
	.ci/lint-protos

docs: setup ## Build the documentation of the Swift library in .build-docs; a warning fails
	.ci/docs

freeze-protos: setup-tests ## Freeze what was added to the messages, at a release; refuses all but additions
	.ci/freeze-protos

format: ## Format
	swift format --in-place --recursive Sources Tests Examples Benchmarks Package.swift

protos: setup-tests ## Make the messages in C and in Python, and the descriptors for reflection, from Protos/
	.ci/generate-protos
	Clients/python/generate

certs: setup ## Make development certificates in Certs/dev
	Certs/make-dev-certs.sh

clean: ## Remove what was built
	rm -rf .build .build-*

.PHONY: setup setup-tests setup-bench setup-fuzz
setup:
	@.ci/setup

setup-tests:
	@.ci/setup --tests
	@.ci/python-env

setup-fuzz:
	@.ci/setup --fuzz

setup-bench:
	@.ci/setup --bench
	@.ci/bench-env
