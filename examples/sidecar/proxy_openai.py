"""The official `openai` SDK through throughline's proxy: one base URL changes, and both sides of the chat are judged.

`pip install openai`, and run a build with the feature `outbound` before any OpenAI-compatible server:

    throughline serve --upstream http://127.0.0.1:8080/v1        # llama.cpp, vLLM, Ollama …
    python3 proxy_openai.py "Good morning!"
"""

import os
import sys

import openai

URL = os.environ.get("THROUGHLINE_URL", "http://127.0.0.1:8787").rstrip("/")
headers = {"X-Throughline-User": "demo", "X-Throughline-Session": "today"}
token = os.environ.get("THROUGHLINE_TOKEN")
if token:
    # With --tokens this server's own token goes here; the upstream's key stays the SDK's, or is the server's (--upstream-key-file).
    headers["x-api-key"] = token
client = openai.OpenAI(base_url=f"{URL}/v1", api_key=os.environ.get("OPENAI_API_KEY") or "none", default_headers=headers, timeout=120)

conversation = [{"role": "user", "content": " ".join(sys.argv[1:]) or "Good morning!"}]
model = os.environ.get("MODEL", "default")

try:
    whole = client.chat.completions.with_raw_response.create(model=model, messages=conversation)
except openai.BadRequestError as error:
    if error.code != "content_filter":
        raise
    sys.exit("The prompt is held for review by a person.")
reply = whole.parse().choices[0]
print("level", whole.headers.get("x-throughline-level"), "finish", reply.finish_reason)
print(reply.message.content)

# The same streamed: it comes piece by piece as it clears, and ends with `content_filter` where it does not.
conversation += [{"role": "assistant", "content": reply.message.content}, {"role": "user", "content": "And then?"}]
for chunk in client.chat.completions.create(model=model, messages=conversation, stream=True):
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
        if choice.finish_reason:
            print(f"\nfinish {choice.finish_reason}")
