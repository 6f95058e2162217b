"""The family of CLIP and OpenCLIP: its source, texts, and what open_clip can build."""
