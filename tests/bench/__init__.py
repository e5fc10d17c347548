"""Benchmarks: programs that measure throughput, latency and memory; run by hand."""
