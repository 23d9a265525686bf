"""Asks a SavedModel with nothing but TensorFlow: ``ask_saved_model.py MODEL PHOTO``.

Imports nothing of the project, and says at the end which of its modules were loaded all the same.
"""

import sys
from pathlib import Path

import tensorflow as tf

model, photo = sys.argv[1:]
serve = tf.saved_model.load(model).signatures["serving_default"]
((name, spec),) = serve.structured_input_signature[1].items()
print(name, spec.dtype.name, spec.shape)
photos = tf.constant([Path(photo).read_bytes()] * 2)
for name, value in sorted(serve(image_bytes=photos).items()):
    print(name, value.dtype.name, value.shape)
    if name == "probabilities":
        pixels = tf.reduce_prod(value.shape[:3])
        assert abs(float(tf.reduce_sum(value)) / float(pixels) - 1) < 1e-4
print([each for each in sys.modules if each.partition(".")[0] in ("pipeline", "components", "tfx")])
