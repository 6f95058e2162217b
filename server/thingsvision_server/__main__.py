"""Runs the server as `python -m thingsvision_server`."""

from . import main

if __name__ == "__main__":
    main()
