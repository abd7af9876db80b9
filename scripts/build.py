#!/usr/bin/env python3
"""The same as ``detection-pack build``."""

import sys

from detection_pack.cli import main

if __name__ == "__main__":
    sys.exit(main(["build", *sys.argv[1:]]))
