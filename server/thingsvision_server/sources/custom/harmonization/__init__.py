"""The family `Harmonization/...` of the source `custom`: networks trained to look where people do.

Fel et al. 2022, "Harmonizing the object recognition strategies of deep neural networks with
humans". All seven were trained in Keras: two are classes of `keras.applications`; the other five
come from discontinued libraries, so their weights are loaded into the same networks of timm.
"""
