# The commands of a working day; `make` alone lists them. CI is `.ci/run`.
CARGO ?= cargo
ARGS ?=
SECONDS ?= 10

.DEFAULT_GOAL := help
.PHONY: help quickstart test plane bench fuzz build fmt lint manifests doc deny image

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: ## watch the real webhook admit and deny images; ARGS=--keep-running leaves it up
	$(CARGO) run --example quickstart -- $(ARGS)

test: ## every test
	$(CARGO) test --workspace

plane: ## etcd, Kubernetes and helm for the cluster tests, built once (needs Go); without them those tests are skipped
	tests/plane/build

bench: ## warm and cold reviews beside a server that only echoes
	$(CARGO) bench

fuzz: ## each fuzz target for SECONDS=10 (needs a nightly toolchain and cargo-fuzz)
	fuzz/run $(SECONDS)

build: ## the release binary, target/release/bonafide
	$(CARGO) build --release --bin bonafide

fmt: ## lay out Rust and TOML (TOML where taplo is installed)
	$(CARGO) fmt --all
	if command -v taplo >/dev/null; then taplo fmt; fi

lint: ## rustfmt and clippy, warnings are errors
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

manifests: ## what is generated into charts/, deploy/ and docs/, after a change of what it is made from (needs `make plane`, for helm)
	UPDATE_MANIFESTS=1 $(CARGO) test --test crd the_chart_has_what_the_program_makes
	UPDATE_MANIFESTS=1 $(CARGO) test --test chart the_documented_values_are_these
	deploy/generate

doc: ## the library's documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

deny: ## licences, banned crates, sources (needs cargo-deny)
	$(CARGO) deny check licenses bans sources

image: ## the container image, with docker
	docker build --tag bonafide --build-arg GIT_DESCRIBE="$$(git describe --tags --always --dirty)" .
