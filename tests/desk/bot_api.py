"""
A Telegram Bot API server for one bot, which behaves as https://core.telegram.org/bots/api says: updates stay until a
poll with a higher offset; of two polls the first gets 409; a flood gets 429 with ``retry_after``.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "4711:made-up-token"
TERMINATED = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"


class BotApi:
    """``sent``: (chat, text, keys) of each message; ``faults``: answers to give first, as (status, body)."""

    def __init__(self):
        self.updates, self.sent, self.faults, self.polls = [], [], [], []
        self.number, self.lock, self.polling = 100, threading.Condition(), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                words = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = outer.answer(self.path, words)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def say(self, text, at, *, chat=7, user=7, name="ann"):
        """A person writes; returns the update's id."""
        with self.lock:
            self.number += 1
            message = {
                "message_id": self.number,
                "date": int(at.timestamp()),
                "chat": {"id": chat, "type": "private"},
                "from": {"id": user, "is_bot": False, "first_name": name.title(), "username": name},
                **({} if text is None else {"text": text}),
            }
            self.updates.append({"update_id": self.number, "message": message})
            self.lock.notify_all()
            return self.number

    def answer(self, path, words):
        if path.split("/")[1] != f"bot{TOKEN}":
            return 401, {"ok": False, "error_code": 401, "description": "Unauthorized"}
        if self.faults:
            return self.faults.pop(0)
        method = path.split("/")[2]
        if method == "sendMessage":
            if not 1 <= len(words["text"]) <= 4096:
                return 400, {"ok": False, "error_code": 400, "description": "Bad Request: message is too long"}
            keys = [key["text"] for row in words["reply_markup"].get("keyboard", []) for key in row]
            self.sent.append((words["chat_id"], words["text"], keys))
            return 200, {"ok": True, "result": {"message_id": len(self.sent)}}
        return self._poll(words)

    def _poll(self, words):
        with self.lock:
            self.polls.append(words.get("offset"))
            self.polling += 1
            mine = self.polling
            self.lock.notify_all()
            self.updates = [u for u in self.updates if u["update_id"] >= words.get("offset", 0)]
            self.lock.wait_for(lambda: self.updates or self.polling != mine, words.get("timeout", 0))
            if self.polling != mine:
                return 409, {"ok": False, "error_code": 409, "description": TERMINATED}
            return 200, {"ok": True, "result": list(self.updates)}
