"""Keras networks, run by TensorFlow in a child process."""
