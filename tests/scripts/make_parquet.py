#!/usr/bin/env python3
"""Writes tests/fixtures/transcripts/wildchat.parquet, with another implementation of Parquet than the reader's.

    pip install pyarrow && python3 tests/scripts/make_parquet.py tests/fixtures/transcripts/wildchat.parquet
"""

import datetime
import sys

import pyarrow as pa
import pyarrow.parquet as pq

UTC = datetime.timezone.utc
TURN = pa.struct([("role", pa.string()), ("content", pa.string()), ("timestamp", pa.timestamp("us", tz="UTC")),
                  ("toxic", pa.bool_())])
SCHEMA = pa.schema([
    ("conversation_hash", pa.string()), ("hashed_ip", pa.string()), ("timestamp", pa.timestamp("ms", tz="UTC")),
    ("conversation", pa.list_(TURN)), ("turn", pa.int64()), ("detoxify_moderation", pa.list_(pa.float64())),
])


def turn(role, content, at=None):
    return {"role": role, "content": content, "timestamp": at, "toxic": False}


def row(name, who, at, turns):
    return {"conversation_hash": name, "hashed_ip": who, "timestamp": at, "conversation": turns, "turn": len(turns or []),
            "detoxify_moderation": [0.5]}


ROWS = [
    row("p2", "ip-a", datetime.datetime(2023, 4, 9, 0, 5, tzinfo=UTC),
        [turn("user", "How deep is the lake?"),
         turn("assistant", "About 40 m.", datetime.datetime(2023, 4, 9, 0, 5, 0, 250000, tzinfo=UTC))]),
    row("p1", "ip-a", datetime.datetime(2023, 4, 8, 10, 0, tzinfo=UTC), [turn("user", "Ünïcode ✓"), turn("assistant", "Yes.")]),
    row("p3", None, None, [turn("user", "Nobody's"), turn("assistant", "")]),
    row("p4", "ip-b", None, [turn("owl", "SECRET WORDS")]),
    row("p5", "ip-b", None, None),
]
pq.write_table(pa.Table.from_pylist(ROWS, schema=SCHEMA), sys.argv[1], compression="zstd", row_group_size=2)
