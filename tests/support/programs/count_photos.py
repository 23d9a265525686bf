"""Counts a hundred photos for whoever watches the progress."""

from pipeline.core import progress

if __name__ == "__main__":
    for _ in range(100):
        progress.count()
