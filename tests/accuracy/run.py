"""Measure how right querywatch is about every program; the command behind `make accuracy`.

python tests/accuracy/run.py [-k PART] [--database sqlite|postgresql] [--mode sync|async]
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # What is imported lies beside this file's folder, not in it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from accuracy.measure import main

    sys.exit(main())
