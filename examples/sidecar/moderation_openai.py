"""The official `openai` SDK, pointed at throughline: with and without a user's history.

`pip install openai`, and run `throughline serve`; see README.md beside this file.
"""

import os
import sys

from openai import OpenAI

URL = os.environ.get("THROUGHLINE_URL", "http://127.0.0.1:8787").rstrip("/")
# The SDK wants a key. A server without --tokens does not look at it.
client = OpenAI(base_url=f"{URL}/v1", api_key=os.environ.get("THROUGHLINE_TOKEN") or "none", timeout=10)


def show(how, result):
    scores = result.category_scores
    print(f"{how}: flagged {result.flagged}")
    print(f"  harassment              {result.categories.harassment!s:5} {scores.harassment:.3f}")
    print(f"  harassment/threatening  {result.categories.harassment_threatening!s:5} {scores.harassment_threatening:.3f}")
    print(f"  violence                {result.categories.violence!s:5} {scores.violence:.3f}")


text = " ".join(sys.argv[1:]) or "She still parks behind the bakery. I will be there at six and she will listen this time."

# By itself: no history is looked at, and none is kept. That is what throughline holds to be too little.
alone = client.moderations.create(model="omni-moderation-latest", input=text)
show("alone", alone.results[0])

# As the next message of a user whose turns are kept (POST /v1/turns keeps them; this call keeps nothing). Ids are ASCII here.
user = {"X-Throughline-User": "demo", "X-Throughline-Session": "today"}
in_history = client.moderations.create(model="omni-moderation-latest", input=text, extra_headers=user)
show("in the history of demo", in_history.results[0])

# Several texts are judged each by itself. Categories that the model knows nothing of are never flagged, with a score of 0.
several = client.moderations.create(model="omni-moderation-latest", input=["Good morning!", text])
print("several:", [result.flagged for result in several.results], "by", several.model)
