"""The batch size of StatisticsGen: an undocumented flag of tfx-bsl.

For tfx-bsl 1.16 (compatible stack) and 1.21 (current).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from absl import flags
from tfx_bsl.coders import batch_util  # noqa: F401  (defines the flag)

from pipeline.compat import Part

PARTS = (Part("tfx_bsl.coders.batch_util", "_USE_BYTE_SIZE_BATCHING"),)

_BY_SIZE = "tfxio_use_byte_size_batching"


@contextlib.contextmanager
def batches_by_size() -> Iterator[None]:
    """Limit Beam's batches of examples to 20 MB inside the context."""
    before = flags.FLAGS[_BY_SIZE].default
    flags.FLAGS.set_default(_BY_SIZE, True)
    try:
        yield
    finally:
        flags.FLAGS.set_default(_BY_SIZE, before)
