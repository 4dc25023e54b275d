"""Author files to the native JSON lines that `throughline score` reads: one session a line, no labels.

    python convert.py datasets/arcs/perrin.txt … > histories.jsonl
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "datasets"))
import check  # noqa: E402


def session_lines(history):
    for number, (started_at, messages) in enumerate(history.sessions, 1):
        yield {
            "user_id": history.id,
            "session_id": f"{history.id}/s{number}",
            "started_at": started_at + ":00Z",
            "messages": [{"role": m.role, "content": m.content} for m in messages],
        }


def main(paths):
    for path in paths:
        for history in check.parse(path):
            for line in session_lines(history):
                print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
