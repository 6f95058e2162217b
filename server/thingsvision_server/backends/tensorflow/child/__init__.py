"""The program of TensorFlow's child process.

It may run in another environment than the server: it imports only the standard library, numpy,
Keras and h5py.
"""
