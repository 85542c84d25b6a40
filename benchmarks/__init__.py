"""Commands that measure what the README claims; `benchmarks/README.md` lists them."""
