"""What a simpler detector scores on the same histories: a keyword lexicon, and TF-IDF with logistic regression."""

import re

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

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
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, class_weight="balanced", max_iter=2000),
    )
    model.fit([user_text(h) for h in train], [has_arc(h, arc) for h in train])
    return dict(zip((h.id for h in test), model.predict_proba([user_text(h) for h in test])[:, 1]))


def has_arc(history, arc):
    return any(kind == arc for kind, *_ in history.arcs)
