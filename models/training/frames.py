"""A head that tells whether a message speaks under a frame, a story or a game: fitted to what the trained layers say.

    python models/training/frames.py SCORES.jsonl [SCORES.jsonl …]    # of `throughline score --output`: figures a split

What is told under which frame stands in `datasets/frames`. The layers are not trained for it, so that it costs the other heads nothing.
"""

import json
import random
import sys

import torch
from sklearn.metrics import average_precision_score
from torch import nn

import calibrate
import corpus
import dev
import warm
from model import FITTED, OrdinalHead

HEAD = "framed"
OTHERS = 1.0  # histories without any frame that are read for each with one


def add(model, reading, encoder, arcs, lower, dev_histories, seed=1):
    """Puts the head into `model`, calibrated on the development authors; its temperature, and figures on these, to which slope and shift
    were fitted. `reading`: the model's faster copy.

    A penalised logistic regression on the normalised hidden states at the ends of user messages, of the training authors who were read
    for frames: of all their histories with a framed message, and as many others.
    """
    histories = corpus.read_framed(arcs, "train")
    some = [h for h in histories if any(m.framed for m in h.messages())]
    others = [h for h in histories if not any(m.framed for m in h.messages())]
    some += random.Random(seed).sample(others, min(len(others), int(OTHERS * len(some))))
    x, y = rows(reading, encoder, some, lower)
    head = OrdinalHead(x.shape[1], FITTED[HEAD])
    warm.fit(head, x, y, torch.ones(FITTED[HEAD]), FITTED[HEAD])

    known = {h.id: h for h in corpus.read_framed(arcs, "dev")}
    x, y = rows(reading, encoder, [known[h.id] for h in dev_histories if h.id in known], lower)
    with torch.no_grad():
        logits = head(x)
    above = y[:, None].float()
    slope, shifts = calibrate.fit(logits, above, torch.zeros(1))
    with torch.no_grad():
        head.bias += shifts / slope
    model.head[HEAD] = head.requires_grad_(False)
    fitted = torch.sigmoid(slope * logits + shifts)[:, 0]
    return round(1 / slope, 4), {"histories": len(some), "messages": len(y), "framed": int(y.sum()), **figures(fitted.tolist(), y.tolist()),
                                 "ece": round(calibrate.calibration_error(fitted, above[:, 0]), 4)}


def rows(reading, encoder, histories, lower):
    """(hidden states (messages, hidden), whether framed) of the users' messages."""
    reading.head["hidden"] = nn.Identity()
    found = dev.predictions(reading, encoder, histories, {}, lower)
    del reading.head["hidden"]
    users = [(found[h.id]["hidden"][i], m.framed) for h in histories for i, m in enumerate(h.messages()) if m.role == "user"]
    return torch.stack([x for x, _ in users]), torch.tensor([int(y) for _, y in users])


def figures(probabilities, framed):
    """AUROC, average precision, and at one half recall and false positives."""
    called = [p >= 0.5 for p in probabilities]
    share = lambda of: round(sum(c for c, y in zip(called, framed) if y == of) / max(1, sum(y == of for y in framed)), 4)  # noqa: E731
    return {"auc": dev.auc(probabilities, framed), "ap": round(float(average_precision_score(framed, probabilities)), 4),
            "recall": share(1), "false_positives": share(0)}


def main(paths):
    said = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            lines = [line for line in map(json.loads, file) if line["type"] == "message" and line.get(HEAD) is not None]
        said |= {(line["user_id"], line["session_index"], line["message_index"]): line[HEAD] for line in lines}
    for split in ("dev", "test", "innocents"):
        places = {(h.id, s, i): int(m.framed) for h in corpus.read_framed(corpus.DATASETS / "arcs", split)
                  for s, (_, messages) in enumerate(h.sessions) for i, m in enumerate(messages) if m.role == "user"}
        known = [place for place in places if place in said]
        if known:
            truth = [places[place] for place in known]
            print(f"{split}: {len(known)} messages of users, {sum(truth)} framed: {json.dumps(figures([said[p] for p in known], truth))}")


if __name__ == "__main__":
    main(sys.argv[1:])
