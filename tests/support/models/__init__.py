"""Models for tests and benchmarks: trained in seconds, pretending, or bad on purpose."""
