"""Keeps a block every few milliseconds, two functions deep."""

import time

KEPT = []


def keep():
    KEPT.append(bytearray(6000))


def handle():
    keep()


while True:
    handle()
    time.sleep(0.01)
