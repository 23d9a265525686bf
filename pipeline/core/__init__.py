"""What every package needs: names of features and splits, errors, files, paths, the terminal.

May import: nothing else of the pipeline.
"""
