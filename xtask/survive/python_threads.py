"""Threads that parse, sort, compress and match."""

import json
import re
import threading
import zlib

from survive import digest, end, round_ends, say_ready, stopped


def work(seed, out):
    numbers = [(i * 7919 + seed) % 10007 for i in range(2000)]
    text = json.dumps({"n": numbers, "words": [f"w{n}" for n in sorted(numbers)]})
    packed = zlib.compress(text.encode())
    found = re.findall(r"w(\d+)7", json.loads(zlib.decompress(packed))["words"].__str__())
    out[seed] = digest(len(packed), found)


say_ready()
while not stopped():
    out = {}
    threads = [threading.Thread(target=work, args=(seed, out)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    round_ends(digest(sorted(out.items())))
end()
