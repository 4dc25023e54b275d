"""What a simpler detector scores on the same histories: a keyword lexicon, and TF-IDF with logistic regression.

    python models/training/baselines.py histories --split test > tfidf.jsonl
    throughline benchmark datasets/arcs --split test --scores tfidf=tfidf.jsonl

writes one line a history, for `throughline benchmark --scores`. `histories` learns from the user's text of whole
histories whether they hold an arc; `messages` learns from single user messages whether they are of level 2 or more, and
scores a history by its highest message; `keywords` counts words of the lexicon. What learns, learns from the train split.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import corpus

LEXICON = {
    "harassment": re.compile(
        r"\b(stalk\w*|follow(?:ed|ing) (?:her|him|them)|track(?:ed|ing|er)?|gps|watch(?:ed|ing)? (?:her|him|them)|"
        r"her address|his address|where (?:she|he) (?:lives|works|parks)|new account|fake account|burner|blocked me|"
        r"restraining order|no.contact|expose|ruin|destroy|revenge|make (?:her|him|them) pay|deserves?|threat\w*|hurt|"
        r"kill|gun|knife|dox\w*|screenshots?|dossier|evidence on)\b", re.I),
    "delusion": re.compile(
        r"\b(signs?|chosen|destiny|mission|awaken\w*|conscious\w*|sentien\w*|alive|frequenc\w*|vibration\w*|signals?|"
        r"code[ds]?|pattern\w*|simulation|prophe\w*|messag(?:e|es) for me|they(?:'re| are) (?:watching|listening)|"
        r"surveill\w*|implant\w*|poison\w*|microphone\w*|gangstalk\w*|meds|medication|pills|soul|divine|god told|"
        r"only you|our bond|real you|proof|breakthrough)\b", re.I),
}


def user_text(history):
    return "\n".join(m.content for m in history.messages() if m.role == "user")


def keyword_score(history, arc):
    """Matches per hundred words of the user."""
    text = user_text(history)
    return 100 * len(LEXICON[arc].findall(text)) / max(1, len(text.split()))


def tfidf_scores(train, test, arc):
    """Probability of the arc by a bag of words and pairs of the whole history, trained on the train authors."""
    model = classifier()
    model.fit([user_text(h) for h in train], [has_arc(h, arc) for h in train])
    return dict(zip((h.id for h in test), model.predict_proba([user_text(h) for h in test])[:, 1]))


def tfidf_message_scores(train, test, arc, level=2):
    """The highest probability of `level` or more of any user message, by the same bag on single messages."""
    messages = [m for h in train for m in h.messages() if m.role == "user"]
    model = classifier()
    model.fit([m.content for m in messages], [getattr(m, arc) >= level for m in messages])
    texts = {h.id: [m.content for m in h.messages() if m.role == "user"] for h in test}
    return {name: model.predict_proba(said)[:, 1].max() for name, said in texts.items()}


def classifier():
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, class_weight="balanced", max_iter=2000),
    )


def has_arc(history, arc):
    return any(kind == arc for kind, *_ in history.arcs)


SCORES = {
    "histories": tfidf_scores,
    "messages": tfidf_message_scores,
    "keywords": lambda _train, test, arc: {h.id: keyword_score(h, arc) for h in test},
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("detector", choices=SCORES)
    p.add_argument("--arcs", type=Path, default=corpus.DATASETS / "arcs", help="folder of author files")
    p.add_argument("--split", choices=["train", "dev", "test"], default="test", help="whose histories are scored")
    args = p.parse_args()
    train, scored = corpus.read_arcs(args.arcs, "train"), corpus.read_arcs(args.arcs, args.split)
    if not train or not scored:
        sys.exit(f"no history to learn from, or none of the split {args.split}, in {args.arcs}")
    by_arc = {arc: SCORES[args.detector](train, scored, arc) for arc in LEXICON}
    for h in scored:
        print(json.dumps({"user_id": h.id, **{arc: round(float(by_arc[arc][h.id]), 6) for arc in LEXICON}}))


if __name__ == "__main__":
    main()
