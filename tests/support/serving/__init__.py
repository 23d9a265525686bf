"""A stand-in for TensorFlow Serving, and TFX's InfraValidator on small artifacts."""
