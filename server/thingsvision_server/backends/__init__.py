"""How to run a framework and tap a module; a backend does not know where models come from."""
