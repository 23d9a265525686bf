"""Servers that tests and benchmarks start on this machine, and what they are made of."""
