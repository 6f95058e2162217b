"""Keras networks, run by TensorFlow in a process of its own."""
