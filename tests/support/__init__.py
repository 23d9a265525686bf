"""What tests and benchmarks share: made data and models, runs, servers, and programs of others.

Neither tests nor benchmarks import the other; both import this package (import-linter checks it).
It is part of ``tests`` because its servers and stand-ins exist for the tests, and benchmarks only
borrow them.

* `runs`: runs of the whole pipeline; `forked`: processes with TensorFlow loaded;
* `faulty_data`: photos and masks of every kind; `models`: models trained in seconds, or bad ones;
* `servers`: databases, Docker, Beam and Flink; `serving`, `kfp`: stand-ins for TensorFlow Serving
  and Kubeflow Pipelines;
* `clients`: other people's programs that use a release; `chromium`: a browser.
"""


class Unavailable(Exception):
    """A program or server cannot be had on this machine; the message says which, and why."""
