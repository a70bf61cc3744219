#!/usr/bin/env python3
"""Receives the events of Storage-proxy and appends each once to a file, a line of JSON an event.

    WEBHOOK_SECRET=whsec_… ./webhook-receiver.py 8400 events.jsonl

Then start the service with WEBHOOK_URLS=http://127.0.0.1:8400/events, the same secret in WEBHOOK_SECRETS, and
WEBHOOK_PRIVATE_NETWORKS=127.0.0.1, since this address is a private one.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_SECONDS = 300


def verify(secret, headers, body):
    """Whether one of the signatures is ours, and young enough (Standard Webhooks)."""
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if message_id is None or timestamp is None or not timestamp.isdecimal():
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest())
    signatures = headers["webhook-signature"] or ""
    return any(
        hmac.compare_digest(value.encode(), expected)
        for version, _, value in (signature.partition(",") for signature in signatures.split())
        if version == "v1"
    )


class Store:
    """Takes each event once, however often it comes, also after a restart."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.file = open(path, "a+", encoding="utf-8")
        self.file.seek(0)
        self.known = {json.loads(line)["id"] for line in self.file}

    def add(self, event):
        with self.lock:
            if event["id"] in self.known:
                return
            self.file.write(json.dumps(event) + "\n")
            self.file.flush()
            # Only what is on the disk may be answered with 2xx: it is not sent again.
            os.fsync(self.file.fileno())
            self.known.add(event["id"])


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        if verify(self.server.secret, self.headers, body):
            self.server.store.add(json.loads(body))
            self.answer(204)
        else:
            self.answer(401)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    port, path = int(sys.argv[1]), sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    server.daemon_threads = True
    server.secret = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
    server.store = Store(path)
    print(f"listening at http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
