"""Results of a run for users: its outcome, the HTML report, the terminal summary, past runs.

May import: `pipeline.artifacts`, `pipeline.evaluation`, `pipeline.training`, `pipeline.release` and
what these may import.
"""
