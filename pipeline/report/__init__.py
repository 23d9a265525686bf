"""What a run leaves for people: its outcome, the terminal's and the HTML report, past runs.

May import: `pipeline.artifacts`, `pipeline.evaluation`, `pipeline.training`, `pipeline.release` and
what these may import.
"""
