"""A chat loop with throughline beside it: what an operator writes around their own assistant.

Every message of the user is kept and judged before the assistant sees it, every draft of a reply before it goes out, and every
reply that went out is kept. Run `throughline serve` first; see README.md beside this file. The standard library is enough.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timezone

URL = os.environ.get("THROUGHLINE_URL", "http://127.0.0.1:8787").rstrip("/")
TOKEN = os.environ.get("THROUGHLINE_TOKEN", "")
# How long a user is kept waiting for a verdict, with all tries.
WAIT_S = float(os.environ.get("THROUGHLINE_WAIT_S", "5"))
# What holds for a user of whom nothing is known yet: "open" lets a reply out without a verdict, "closed" holds it.
FIRST_ON_FAILURE = "open"
# From these levels on a flagged draft is held. Which they are is yours to say: throughline restricts nobody.
HOLD_AT = ("review", "senior", "urgent")
HELD_REPLY = "I cannot help with that here. If somebody is in danger, please call the emergency services."
WAIT_REPLY = "I cannot answer just now. Please try again in a moment."

DEMO = [
    "Good morning! Can you help me plan a birthday lunch for my sister?",
    "There will be eight of us, and two do not eat meat.",
    "A lentil pie sounds lovely. What could we have with it?",
    "Thank you, that is everything.",
]


class Unavailable(Exception):
    """No answer can be had in time: try again later, with the same key."""


class Refused(Exception):
    """The request itself is at fault: the same again would be refused again."""


def post(path, body, key=None, wait_s=None):
    """What the server answers to these bytes. Tries again while the answer is to come back later and there is time."""
    end = time.monotonic() + (WAIT_S if wait_s is None else wait_s)
    while True:
        left_s = end - time.monotonic()
        if left_s <= 0:
            raise Unavailable(f"{path}: no answer in time")
        headers = {"Content-Type": "application/json", "X-Deadline-Ms": str(max(1, int(left_s * 1000)))}
        if TOKEN:
            headers["Authorization"] = f"Bearer {TOKEN}"
        if key:
            headers["Idempotency-Key"] = key
        request = urllib.request.Request(URL + path, body, headers, method="POST")
        try:
            # The server looks at the deadline when it begins with the work: the time that we wait is bounded here.
            with urllib.request.urlopen(request, timeout=left_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            problem = problem_of(error)
            if error.code in (400, 413, 415, 422):
                raise Refused(f"{path}: {error.code} {problem}") from None
            # 409: another process wrote meanwhile; 429: the queue is full; 503: too late, or the server stops.
            if error.code not in (409, 429, 503):
                raise Unavailable(f"{path}: {error.code} {problem}") from None
            pause_s = retry_after_s(error)
        except (OSError, ValueError) as error:
            # Not there, too slow, or gone in the middle of its answer: whether a turn was kept is not known. Its key makes it safe
            # to send it again.
            raise Unavailable(f"{path}: {error}") from None
        if time.monotonic() + pause_s >= end:
            raise Unavailable(f"{path}: {problem}")
        time.sleep(pause_s)


def problem_of(error):
    try:
        problem = json.load(error)
        return f"{problem['detail']}; hint: {problem['hint']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "an answer that is not throughline's: is there a proxy in between?"


def retry_after_s(error):
    try:
        return max(0.1, float(error.headers.get("Retry-After", "")))
    except ValueError:
        return 0.5


class Conversation:
    """One user's session."""

    def __init__(self, user_id, session_id):
        self.user_id, self.session_id = user_id, session_id
        # In a product these two outlive the process: keep them where your sessions are, and bound the second.
        self.on_failure = FIRST_ON_FAILURE
        self.unsent = []

    def body(self, messages, **more):
        whole = {"user_id": self.user_id, "session_id": self.session_id, "messages": messages, **more}
        return json.dumps(whole, ensure_ascii=False).encode()

    def keep(self, message):
        """Keeps a message, after all that could not be kept before it; what is answered, or `None` where there is no verdict."""
        # The same key with the same bytes is done once: both are made once, and kept until they are answered.
        self.unsent.append((str(uuid.uuid4()), self.body([message])))
        answer, end = None, time.monotonic() + WAIT_S
        while self.unsent:
            key, body = self.unsent[0]
            try:
                answer = post("/v1/turns", body, key, end - time.monotonic())
            except Unavailable as why:
                log(f"no verdict, {len(self.unsent)} messages wait to be sent: {why}")
                return None
            except Refused as why:
                log(f"a message is not kept: {why}")
                answer = None
            self.unsent.pop(0)
        if answer:
            self.on_failure = answer["on_failure"]
            if answer["alarm"]:
                log(f"alarm {answer['alarm']['id']}, {answer['alarm']['level']}: a person should read this history")
        return answer

    def may_go_out(self, draft):
        """Whether a draft of a reply may be delivered."""
        if self.unsent:
            return self.on_failure == "open"
        try:
            answer = post("/v1/check", self.body([draft]))
        except (Unavailable, Refused) as why:
            log(f"no verdict on the draft, on_failure is {self.on_failure}: {why}")
            return self.on_failure == "open"
        return not (answer["flagged"] and answer["level"] in HOLD_AT)

    def reply_to(self, text):
        """What the user gets to see after a message of theirs."""
        verdict = self.keep(message("user", text))
        if verdict:
            log(standing(verdict))
        elif self.on_failure == "closed":
            return WAIT_REPLY
        draft = assistant(text)
        return draft if self.may_go_out(message("assistant", draft)) else HELD_REPLY

    def delivered(self, reply):
        """Keeps what the user got to see, and not what was held."""
        self.keep(message("assistant", reply))


def message(role, content):
    return {"role": role, "content": content, "timestamp": datetime.now(timezone.utc).isoformat()}


def assistant(text):
    """Your own assistant. This one is a stub."""
    if "plan" in text:
        return "Gladly. How many people are coming, and is there anything that they do not eat?"
    if "meat" in text:
        return "Then a lentil pie in the middle would suit everybody."
    if "with it" in text:
        return "A green salad, roast carrots, and a plum cake for afterwards."
    return "You are welcome."


def standing(answer):
    scores = ", ".join(f"{arc['kind']} {arc['score']:.2f}" for arc in answer["arcs"])
    return f"level {answer['level']} ({scores}), {answer['messages_kept']} messages kept"


def log(text):
    """For the operator, not for the user: nobody should see how they are judged. No text of a message belongs here."""
    print(f"     [{text}]", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", help="an innocent conversation, without input")
    parser.add_argument("--user", default="demo", help="the user's id; an opaque one is best")
    parser.add_argument("--session", default=str(uuid.uuid4()), help="the session's id")
    asked = parser.parse_args()
    conversation = Conversation(asked.user, asked.session)
    for text in DEMO if asked.demo else iter(lambda: input("you> "), ""):
        if asked.demo:
            print(f"you> {text}", flush=True)
        reply = conversation.reply_to(text)
        print(f"bot> {reply}", flush=True)
        conversation.delivered(reply)


if __name__ == "__main__":
    try:
        main()
    except (EOFError, KeyboardInterrupt):
        pass
