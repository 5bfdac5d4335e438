# The door to everything that is done with this repository. `make` alone says what there is.
SHELL := /bin/bash
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

# The engine of several hosts is part of what is checked, where its build has what it needs.
ETCD = $(if $(wildcard /usr/include/google/protobuf/descriptor.proto),$(if $(shell command -v protoc),--features kvstore/etcd))
TELL_ETCD = [ -n "$(ETCD)" ] || echo 'SKIPPED the engine etcd: this machine lacks protoc and its files (Debian: protobuf-compiler, libprotobuf-dev)'

# One story, with what `make test` has built.
BUILD_STORIES = $(CARGO) test --workspace --locked $(ETCD) --no-run
STORY = $(CARGO) test --workspace --locked $(ETCD) --test stories --

.PHONY: help setup build lint test unit-and-stories docs pictures demo clean-demo dist bench docker-restarts chaos chaos-whole soak hostile fuzz asan audit

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install with apt what the tests, the demo and the benchmark run beside our programs
	tests/setup.sh

build: ## build all programs, for debugging
	$(CARGO) build --workspace --bins --locked

lint: ## format, clippy and documentation, each without a warning
	$(CARGO) fmt --all --check
	@$(TELL_ETCD)
	$(CARGO) clippy --workspace --all-targets --locked $(ETCD) -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked $(ETCD)

# Without the right to install, the stories say what they lack; with CI=true that is a failure.
test: ## everything, the way CI runs it: lint, unit tests, and the stories with real Docker, proxies and dig
	tests/setup.sh || echo 'going on without; stories that lack something will say so'
	$(MAKE) --no-print-directory lint unit-and-stories

unit-and-stories:
	CARGO='$(CARGO)' tests/run.sh $(ETCD)

docs: build ## write docs/reference anew, and with mdbook (cargo install mdbook) the book, to target/book
	RENEW_DOCS=1 $(CARGO) test --locked -p flotilla-tests --test docs reference
	@if command -v mdbook >/dev/null; then mdbook build docs; else echo 'there is no mdbook; docs/SUMMARY.md leads through the pages'; fi

pictures: ## take README's pictures of the web UI again
	$(BUILD_STORIES)
	PICTURES=docs/pictures $(STORY) web_ui

demo: ## show the main job with real containers, HAProxy and nginx; stays up until Ctrl-C (ONCE=1: ends by itself)
	ONCE=$(ONCE) examples/demo/run.sh

clean-demo: ## remove what a demo that was killed left behind
	examples/demo/run.sh clean

dist: ## make what is installed, in dist/: static programs, Debian packages and, with IMAGES=1, images by Docker
	examples/dist.sh

bench: ## print how fast it is, as shipped, beside what it is compared with (ONLY="put herd": these figures only)
	tests/setup.sh
	programs=$$(examples/static.sh) && $$programs/bench $(ONLY)

docker-restarts: ## have Docker start without the overlay, and both be killed, which takes minutes
	$(BUILD_STORIES)
	OVERLAY_LONG=1 $(STORY) overlay_docker_driver
	$(STORY) overlay_two_hosts_driver

chaos: ## have three hosts fail in turn while clients write, for ten minutes (CHAOS_SECONDS=n; SEED=n: the same faults again)
	@$(TELL_ETCD)
	$(BUILD_STORIES)
	CHAOS_SECONDS=$(or $(CHAOS_SECONDS),600) SEED=$(SEED) $(STORY) hosts_chaos

chaos-whole: ## have everything on two hosts fail while visitors come, for ten minutes (WHOLE_SECONDS=n; SEED=n: the same again)
	$(BUILD_STORIES)
	WHOLE_SECONDS=$(or $(WHOLE_SECONDS),600) SEED=$(SEED) $(STORY) whole_chaos

soak: ## hold a steady load for half an hour: memory, files and threads stay what they are (SOAK_SECONDS=n)
	$(BUILD_STORIES)
	SOAK_SECONDS=$(or $(SOAK_SECONDS),1800) $(STORY) soak

hostile: ## send random requests to every endpoint for a minute (SECONDS=n: for longer; SEED=n: the same again)
	HOSTILE_SECONDS=$(or $(SECONDS),60) $(CARGO) test --release --locked -p kvstore --lib hostile -- --nocapture

# What `make test` has of it: its corpus again, and random bytes beside each of the parsers. Wants g++, for libFuzzer.
fuzz: ## have the coverage lead to bytes that break something, ten minutes each (SECONDS=n, TARGETS="row request", JOBS=n)
	JOBS=$(JOBS) KEEP=$(KEEP) CARGO='$(CARGO)' kvstore/fuzz/run.sh $(or $(SECONDS),600) $(TARGETS)

# An ordinary Rust has the run-time library of it, and the option that links it is opened by RUSTC_BOOTSTRAP.
asan: ## run the tests of the only module with unsafe code, and what goes through it, under AddressSanitizer
	@if ls "$$(rustc --print target-libdir)"/librustc-*_rt.asan.a >/dev/null 2>&1; then \
		RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(CARGO) test --locked -p kvstore --lib --target-dir target/asan \
			--target "$$(rustc -vV | sed -n 's/host: //p')" -- dns::batch dns::tests::sockets; \
	else echo 'SKIPPED AddressSanitizer: this Rust has no librustc-*_rt.asan.a for its own target'; fi

audit: ## licences, sources, unused dependencies and advisories; for a developer's machine, not for CI
	@command -v cargo-deny >/dev/null || { echo 'first: cargo install --locked cargo-deny'; exit 1; }
	@command -v cargo-machete >/dev/null || { echo 'first: cargo install --locked cargo-machete'; exit 1; }
	$(CARGO) deny check bans licenses sources
	$(CARGO) machete
	@if $(CARGO) deny fetch db; then $(CARGO) deny check advisories; \
	else echo 'SKIPPED the advisories: their database cannot be fetched'; fi
