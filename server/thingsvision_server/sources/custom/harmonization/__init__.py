"""The family `Harmonization/...` of the source `custom`: networks trained to look where people do.

Fel et al. 2022, "Harmonizing the object recognition strategies of deep neural networks with
humans". All seven were trained in Keras: two are classes of `keras.applications`; the other five
are of libraries that have ended, so their files are read into the same networks of timm.
"""
