"""The program of TensorFlow's own process; knows nothing of the server that starts it.

It may run in another environment: it imports the standard library, numpy, Keras and h5py alone.
"""
