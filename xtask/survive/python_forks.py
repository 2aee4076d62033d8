"""Children by fork and by a pool of processes."""

import multiprocessing
import os

from survive import digest, end, must, round_ends, say_ready, stopped


def work(seed):
    return digest(sorted(str(i * seed % 997) for i in range(3000)))


if __name__ == "__main__":
    say_ready()
    while not stopped():
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map(work, range(8))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, work(99).encode())
            os._exit(3)
        os.close(writer)
        found.append(os.read(reader, 100))
        os.close(reader)
        must(os.waitpid(child, 0)[1] == 3 << 8, "the child ends with 3")
        round_ends(digest(found))
    end()
