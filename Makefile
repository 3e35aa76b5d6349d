# What a contributor runs. CI runs `.ci/run`, which calls these.
.PHONY: check test demo bench

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

test:
	tests/all

demo:
	cargo run --release -- demo

bench:
	cargo bench
