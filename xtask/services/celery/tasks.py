"""Celery: a task that reads, counts words and packs, with Redis between it and who asks for it."""

import collections
import os
import zlib

import articles
from celery import Celery

FOLDER = os.environ["FOLDER"]
DATABASE = os.path.join(FOLDER, "celery.sqlite")
REDIS = f"redis+socket://{FOLDER}/redis.sock"

app = Celery("tasks", broker=REDIS, backend=REDIS)
app.conf.result_expires = 60
app.conf.broker_connection_retry_on_startup = True
articles.fill(DATABASE)


@app.task
def digest(start):
    rows = articles.page(DATABASE, start)
    words = collections.Counter(word for row in rows for word in row["body"].split())
    packed = zlib.compress("".join(row["body"] for row in rows).encode())
    return {"words": words.most_common(10), "packed": len(packed)}
