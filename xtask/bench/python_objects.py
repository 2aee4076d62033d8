"""Makes lists, strings and dictionaries, keeps the newest of them for a while, and drops them: each line on standard input
is a number of steps, answered by a sum. The same objects in every run; they are larger than 512 bytes, up to which Python
allocates from pools of its own and does not call malloc."""

import collections
import sys


def steps(count):
    kept = collections.deque(maxlen=200)
    total = 0
    for step in range(count):
        numbers = list(range(80 + step % 64))
        text = "x" * (600 + step % 500)
        table = dict.fromkeys(range(40 + step % 90))
        total += len(numbers) + len(text) + len(table)
        kept.append((numbers, text, table))
    return total


for line in iter(sys.stdin.readline, ""):
    print(steps(int(line)), flush=True)
