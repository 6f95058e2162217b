"""The family of CLIP and OpenCLIP: its source, its tokenizers, and open_clip's networks."""
