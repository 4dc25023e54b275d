#!/usr/bin/env python3
"""Walks a ChatGPT export on its own and prints the text of the active branch of each conversation.

    python3 tests/scripts/chatgpt_active_branch.py conversations.json

One JSON object a line: {"id": …, "messages": [[role, text], …]}. Standard library only; written from the
description of the export, not from the Rust reader, and used to check that one.

The rules:
  * the active branch runs from `current_node` through `parent` to the root; where `current_node` names no node,
    from the leaf with the latest message (the greatest id among equals); a node is visited once
  * hidden nodes, system messages, custom instructions, memory and reasoning are `system`; other nodes that
    are a tool's, or sent to a recipient other than `all`, are `tool`
  * parts are joined with newlines; a picture is `[image]`, sound `[audio]`, a file `[attachment: NAME]`;
    a picture listed among the attachments counts once
  * messages without text are dropped
"""

import json
import sys

ROLES = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}
INNER = ("user_editable_context", "model_editable_context", "thoughts", "reasoning_recap")


def chain(conversation):
    """The nodes of the active branch, root first."""
    nodes = conversation["mapping"]
    here = conversation.get("current_node")
    if here not in nodes:
        has_child = {n.get("parent") for n in nodes.values()}
        leaves = [i for i in nodes if i not in has_child]
        stamp = lambda i: ((nodes[i].get("message") or {}).get("create_time") or float("-inf"), i)
        here = max(leaves, key=stamp) if leaves else None
    path = []
    while here in nodes and here not in path:
        path.append(here)
        here = nodes[here].get("parent")
    return [nodes[i] for i in reversed(path)]


def part_text(part):
    if isinstance(part, str):
        return part
    kind = part.get("content_type", "")
    if kind == "audio_transcription":
        return part["text"]
    if "image" in kind:
        return "[image]"
    if "audio" in kind:
        return "[audio]"
    return part.get("text") or "[attachment]"


def body(message):
    content = message["content"]
    kind = content["content_type"]
    if kind == "thoughts":
        lines = [t["content"] for t in content["thoughts"]]
    elif kind == "user_editable_context":
        lines = [content["user_profile"], content["user_instructions"]]
    elif kind in ("text", "multimodal_text"):
        lines = [t for t in map(part_text, content["parts"]) if t != ""]
    elif kind == "tether_browsing_display":
        lines = [content["result"]]
    elif kind == "reasoning_recap":
        lines = [content["content"]]
    else:  # code, execution_output, tether_quote
        lines = [content["text"]]
    pictured = "[image]" in lines
    for file in (message.get("metadata") or {}).get("attachments", []):
        if not file["mime_type"].startswith("image/"):
            lines.append("[attachment: %s]" % file["name"])
        elif not pictured:
            lines.append("[image]")
    return "\n".join(lines)


def speaker(message):
    metadata = message.get("metadata") or {}
    role = ROLES[message["author"]["role"]]
    if role == "system" or metadata.get("is_visually_hidden_from_conversation") is True:
        return "system"
    if message["content"]["content_type"] in INNER:
        return "system"
    if role == "tool" or message.get("recipient", "all") != "all":
        return "tool"
    return role


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        conversations = json.load(file)
    for conversation in conversations:
        messages = [n["message"] for n in chain(conversation) if n.get("message")]
        said = [[speaker(m), body(m)] for m in messages]
        said = [pair for pair in said if pair[1].strip()]
        print(json.dumps({"id": conversation["id"], "messages": said}))


if __name__ == "__main__":
    main()
