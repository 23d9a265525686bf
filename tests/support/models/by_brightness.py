"""A model that goes by brightness, with the contract's signature, and the command that asks it."""

from __future__ import annotations

from pathlib import Path

from pipeline.cli import predict

SIZE = 200


WIDEST = 4000  # this model takes no wider photo


def save_model(folder: Path, signature: str = "serving_default", poison: float = 0.0) -> Path:
    """Saves a model that goes by brightness: dark is pet, middle border, bright background."""
    import tensorflow as tf

    class Brightness(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            def decode(contents: tf.Tensor) -> tf.Tensor:
                pixels = tf.io.decode_image(contents, channels=3, expand_animations=False)
                tf.debugging.assert_less_equal(tf.shape(pixels)[1], WIDEST)
                return tf.image.resize(pixels, [SIZE, SIZE])

            photos = tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32)
            light = tf.reduce_mean(photos, axis=-1, keepdims=True)
            centres = tf.constant([20.0, 235.0, 128.0])
            probabilities = tf.nn.softmax(-tf.abs(light - centres) / 10.0) + poison
            mask = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
            return {"mask": mask, "probabilities": probabilities}

    module = Brightness()
    tf.saved_model.save(module, str(folder), signatures={signature: module.serve})
    return folder


def run(model: Path, output_dir: Path, *photos: Path) -> int:
    arguments = ["--model", model, "--output-dir", output_dir, *photos]
    return predict.main([str(a) for a in arguments])
