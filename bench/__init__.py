"""Benchmarks against peers and against the machine's own limits; never part of the test run."""
