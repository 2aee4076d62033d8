"""What the Python programs share: see survive.h."""

import hashlib
import os
import sys

STOP = os.environ["STOP"]
FOLDER = os.environ["FOLDER"]
_first = None


def say_ready(*pids):
    print("ready", *(pids or (os.getpid(),)), flush=True)


def stopped():
    return _first is not None and os.path.exists(STOP)


def must(condition, what):
    if not condition:
        print("survive: not true:", what, file=sys.stderr, flush=True)
        os._exit(1)


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def round_ends(result):
    global _first
    must(_first is None or result == _first, f"{result} is {_first}")
    _first = result


def end():
    print("result", _first, flush=True)
    sys.exit(7)
