#!/usr/bin/env python3
"""Author files to transcripts as people have them: the formats that `throughline score` reads (standard library only).

    python3 datasets/convert.py datasets/arcs/perrin.txt … > histories.jsonl
    python3 datasets/convert.py --examples EXAMPLES.txt datasets/examples

The first writes native JSON lines, one session a line, without labels. The second writes the example
folder: each history under a neutral name, most of them native, one each as a ChatGPT export, a Claude
export, an OpenAI chat, plain text and CSV, and two packed.
"""

import csv
import gzip
import io
import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import check  # noqa: E402

# Neutral names: nothing in a name tells the kind.
NAMES = {
    "ex-01": "declan", "ex-02": "oisin", "ex-03": "marisol", "ex-04": "jovie", "ex-05": "wade",
    "ex-06": "nell", "ex-07": "tunde", "ex-08": "ania", "ex-09": "boonkeng",
}
MESSAGE_GAP = timedelta(minutes=2)


def native(history, user):
    for number, (started_at, messages) in enumerate(history.sessions, 1):
        yield {
            "user_id": user,
            "session_id": f"{user}-{number:02}",
            "started_at": started_at + ":00Z",
            "messages": [{"role": m.role, "content": m.content} for m in messages],
        }


def json_lines(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def starts(history):
    for started_at, messages in history.sessions:
        yield datetime.fromisoformat(started_at).replace(tzinfo=timezone.utc), messages


def chatgpt(history, user):
    """A ChatGPT data export: a list of conversations, each a tree of nodes."""
    out = []
    for number, (start, messages) in enumerate(starts(history), 1):
        mapping = {"root": {"id": "root", "message": None, "parent": None, "children": []}}
        parent = "root"
        for index, m in enumerate(messages):
            node = f"{user}-{number:02}-{index:02}"
            mapping[parent]["children"].append(node)
            mapping[node] = {
                "id": node, "parent": parent, "children": [],
                "message": {
                    "id": node, "author": {"role": m.role},
                    "create_time": (start + index * MESSAGE_GAP).timestamp(),
                    "content": {"content_type": "text", "parts": [m.content]},
                },
            }
            parent = node
        out.append({"title": f"Chat {number}", "create_time": start.timestamp(), "conversation_id": f"{user}-{number:02}",
                    "current_node": parent, "mapping": mapping})
    return json.dumps(out, ensure_ascii=False, indent=1) + "\n"


def claude(history, user):
    """A Claude data export: a list of conversations with chat messages."""
    out = []
    for number, (start, messages) in enumerate(starts(history), 1):
        iso = lambda index: (start + index * MESSAGE_GAP).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: E731
        out.append({
            "uuid": f"{user}-{number:02}", "name": f"Chat {number}", "created_at": iso(0),
            "chat_messages": [
                {"uuid": f"{user}-{number:02}-{index:02}", "sender": "human" if m.role == "user" else "assistant",
                 "text": m.content, "created_at": iso(index)}
                for index, m in enumerate(messages)],
        })
    return json.dumps(out, ensure_ascii=False, indent=1) + "\n"


def openai(history, user):
    return json_lines({"user": user, "messages": session["messages"]} for session in native(history, user))


def rows(history, user):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["user_id", "session_id", "timestamp", "role", "content"])
    for number, (start, messages) in enumerate(starts(history), 1):
        for index, m in enumerate(messages):
            time = (start + index * MESSAGE_GAP).strftime("%Y-%m-%dT%H:%M:%SZ")
            writer.writerow([user, f"{user}-{number:02}", time, m.role, m.content])
    return text.getvalue()


def plain(history, _user):
    parts = []
    for started_at, messages in history.sessions:
        lines = [f"--- {started_at.replace('T', ' ')}"]
        lines += [f"{'User' if m.role == 'user' else 'Assistant'}: {m.content}" for m in messages]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def examples(source, folder):
    histories = {h.id: h for h in check.parse(source)}
    by = lambda number: (histories[f"ex-{number:02}"], NAMES[f"ex-{number:02}"])  # noqa: E731
    files = {
        "app.jsonl": "".join(json_lines(native(*by(n))) for n in (1, 2)),
        "app-2.jsonl.gz": json_lines(native(*by(6))),
        f"{NAMES['ex-03']}/conversations.json": chatgpt(*by(3)),
        f"{NAMES['ex-04']}/conversations.json": claude(*by(4)),
        "support.csv": rows(*by(5)),
        f"{NAMES['ex-07']}.txt": plain(*by(7)),
        "chats.jsonl": openai(*by(9)),
        "app-3.jsonl": json_lines(native(*by(8))),
    }
    for name, text in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        # No time in the packed file: the same input gives the same bytes.
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return files


def main(arguments):
    if arguments[:1] == ["--examples"]:
        examples(*arguments[1:])
        return
    for path in arguments:
        for history in check.parse(path):
            sys.stdout.write(json_lines(native(history, history.id)))


if __name__ == "__main__":
    main(sys.argv[1:])
