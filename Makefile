# make demo   installs what is missing, builds, and issues a certificate with a SoftHSM token
# make test   the same start, then every test
# make test-often  N=20: every test N times on a busy machine, and what did not pass each time
# make mutants     weakens the safety-critical modules and reports what no test notices; hours
# make campaign    repeats in the thousands what the tests repeat a few times
# make abuse       what a neighbour's flood costs others, in figures
# make lint   format, clippy, licences and sources, Go vet
# make fuzz   a minute for each fuzz target (FUZZ_SECONDS=60)
# make image  the images, from Debian packages and a release build, and a try of them
# make sbom   the bill of materials of binary and images
# make bench  the benchmark of docs/benchmarks.md
# make bench-against  COMMIT=fa46cf9: what changes since then cost, in five interleaved pairs
# make setup  only what the tests need; quick the second time
# make advisories  the crates against the database of known vulnerabilities
# make help   these lines

CARGO ?= cargo
FUZZ_SECONDS ?= 60

.PHONY: help demo test test-often mutants campaign abuse lint fuzz image sbom bench bench-against setup advisories

help:
	@sed -n 's/^# \(make [a-z-]*\)  */\1\t/p' Makefile | expand -t 22

setup:
	scripts/setup test

demo:
	scripts/setup demo
	@echo "compiling Rootbridge: about 12 minutes on two cores the first time, seconds after that"
	$(CARGO) build --release --locked
	scripts/demo

test:
	scripts/setup test
	scripts/test

test-often:
	scripts/test-often

mutants:
	scripts/setup test
	scripts/mutants

campaign:
	scripts/campaign

abuse:
	scripts/setup test
	scripts/abuse

lint:
	scripts/setup lint
	git grep -nE '^(<{7}|>{7}|\|{7}) '; test $$? -eq 1 # 1: none found; an error is no answer
	$(CARGO) fmt --all --check
	cd tests/boringssl && $(CARGO) fmt --check
	cd tests/kryoptic && $(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	cd fuzz && $(CARGO) fmt --check && $(CARGO) check --locked --target-dir ../target
	scripts/cargo-deny check bans licenses sources
	test -z "$$(gofmt -l tests/interop)"
	cd tests/interop && go vet ./...

# Needs the advisory database, a git repository that not every build machine can reach.
advisories:
	scripts/setup lint
	scripts/cargo-deny check advisories

fuzz:
	scripts/setup fuzz
	scripts/fuzz $(FUZZ_SECONDS)

image:
	scripts/setup image
	scripts/release
	scripts/image build
	scripts/image try

sbom:
	scripts/setup image
	scripts/sbom

bench:
	scripts/setup demo
	$(CARGO) build --release --locked --package rootbridge --package rootbridge-bench
	target/release/rootbridge-bench

bench-against:
	scripts/setup demo
	scripts/bench-against $(COMMIT)
