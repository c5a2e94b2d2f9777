# Two commands for everybody: `make run` and `make test`. The others are for those who change the gateway.
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin
export BITS_GATEWAY_TEST_TOOLS := $(abspath $(or $(BITS_GATEWAY_TEST_TOOLS),target/test-tools))
export FUZZ_SECONDS ?= 30

.PHONY: help run test lint doc fuzz bench image check mutations

help:
	@echo 'make run     build the gateway and serve ./bits-data on 127.0.0.1:8080 (ARGS="…" for other options)'
	@echo 'make test    install what the tests need and run them all'
	@echo 'make lint    formatting, compiler and clippy warnings, shell scripts'
	@echo 'make doc     the documentation of the code, in target/doc'
	@echo 'make fuzz    each fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS)) seconds'
	@echo 'make mutations  plant every known mistake and see that the simulation notices'
	@echo 'make bench   one benchmark beside others: make bench BENCH=ingest; without BENCH, which ones there are'
	@echo 'make image   a container image, bits-gateway:dev'
	@echo 'make check   everything that a change has to pass: .ci/run'

run:
	@.ci/need build
	cargo run --release --locked -- serve $(ARGS)

test:
	@.ci/need build test
	@.ci/tools seaweedfs azurite promtool
	@.ci/test

lint:
	@.ci/need build lint
	cargo fmt --check
	shellcheck .ci/audit .ci/deploy .ci/fuzz .ci/image .ci/mutations .ci/need .ci/run .ci/test .ci/tools
	cargo clippy --locked --all-targets -- --deny warnings

doc:
	@.ci/need build
	RUSTDOCFLAGS=--deny=warnings cargo doc --locked --no-deps

fuzz:
	@.ci/need build fuzz
	@.ci/tools cargo-fuzz
	@.ci/fuzz run

mutations:
	@.ci/need build
	@.ci/mutations all

# Machines differ, instructions do not: the one benchmark that is also a check is called by name.
bench:
ifeq ($(BENCH),instructions)
	@.ci/need build instructions
	cargo bench --locked --bench instructions -- $(ARGS)
else
	@.ci/need build bench
	@.ci/tools seaweedfs nginx tus
	PATH="$$PATH:/usr/sbin:$$BITS_GATEWAY_TEST_TOOLS/nginx/usr/sbin" cargo bench --locked --bench speed -- $(BENCH) $(ARGS)
endif

image:
	@.ci/need build image
	@.ci/image

check:
	@.ci/run
