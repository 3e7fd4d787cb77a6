# Two commands matter: `make lab` and `make test`.
.PHONY: test lint fmt

test:
	cargo fmt --check
	cargo test --workspace

lint:
	cargo clippy --workspace --all-targets -- -D warnings

fmt:
	cargo fmt
