"""Counts its visits in Redis and says which container answered."""

import socket
import time

import redis
from flask import Flask

app = Flask(__name__)
cache = redis.Redis(host="redis", port=6379, socket_connect_timeout=2)


def count_visit():
    """The number of this visit; waits a while for Redis, which may start later."""
    tries = 20
    while True:
        try:
            return cache.incr("visits")
        except redis.exceptions.ConnectionError:
            tries -= 1
            if tries == 0:
                raise
            time.sleep(0.25)


@app.route("/")
def page():
    return f"Visit number {count_visit()}, answered by container {socket.gethostname()}.\n"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5000)
