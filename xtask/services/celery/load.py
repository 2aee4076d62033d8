"""A closed loop of Celery's tasks: CONNECTIONS threads ask for one and wait for its result, for SECONDS."""

import os
import threading
import time

import tasks

done, failed = [], []
begun = time.monotonic()
end = begun + float(os.environ["SECONDS_OF_LOAD"])


def ask(number):
    while time.monotonic() < end:
        number += 7
        try:
            answer = tasks.digest.delay(number).get(timeout=20, interval=0.002)
            (done if answer["packed"] > 0 else failed).append(1)
        except Exception:
            failed.append(1)


threads = [threading.Thread(target=ask, args=(at * 100,)) for at in range(int(os.environ["CONNECTIONS"]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(f"load requests {len(done)} microseconds {(time.monotonic() - begun) * 1e6:.0f} failed {len(failed)}", flush=True)
# Connections that Celery keeps would be closed one by one.
os._exit(0)
