"""redis-server under its own client: what is stored is what comes back."""

import os
import socket
import subprocess

from survive import FOLDER, digest, end, must, round_ends, say_ready, stopped
import time

path = os.path.join(FOLDER, "redis.socket")
server = subprocess.Popen(
    ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", FOLDER, "--io-threads", "2"],
    stdout=subprocess.DEVNULL,
)
while True:
    try:
        link = socket.socket(socket.AF_UNIX)
        link.connect(path)
        break
    except OSError:
        must(server.poll() is None, "redis-server has started")
        time.sleep(0.02)
stream = link.makefile("rb")


def answer():
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [answer() for _ in range(int(rest))]
    must(kind in b"+:", line)
    return rest


def ask(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    link.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
    return answer()


say_ready(server.pid)
while not stopped():
    for i in range(300):
        ask("SET", f"k{i}", b"v" * (i * 13 % 5000))
        ask("HSET", "h", f"f{i}", i * i)
        ask("ZADD", "z", i * 7 % 101, f"m{i}")
    values = [ask("GET", f"k{i}") for i in range(300)]
    ranked = ask("ZRANGE", "z", 0, -1, "WITHSCORES")
    script = ask("EVAL", "local s = 0 for i = 1, 1000 do s = s + #tostring(i) end return s", 0)
    ask("BGSAVE")
    while b"rdb_bgsave_in_progress:1" in ask("INFO", "persistence"):
        time.sleep(0.005)
    must(b"rdb_last_bgsave_status:ok" in ask("INFO", "persistence"), "the child has saved")
    round_ends(digest(values, ranked, script, sorted(ask("HVALS", "h"))))
    ask("FLUSHALL")
server.terminate()
must(server.wait() == 0, f"redis-server ends with 0, not {server.returncode}")
end()
