# What a contributor runs. CI runs `.ci/run`, which calls these.
.PHONY: check test docs demo bench instructions fuzz soak supply-chain

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

test:
	tests/all

# The documentation as a site, below target/docs-site
docs:
	docs/build

demo:
	cargo run --release -- demo

bench:
	cargo bench

# What a call costs in instructions, against tests/instructions/counts.json; needs valgrind
instructions:
	cargo build --release
	tests/instructions/run

# FUZZ_SECONDS for each target, 1200 by default: tests/fuzz/README.md
fuzz:
	tests/fuzz/run

# SOAK_SECONDS, 3600 by default
soak:
	tests/soak/soak.py

supply-chain:
	tests/supply-chain
