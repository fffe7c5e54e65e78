"""A service whose model has an encoder."""

from __future__ import annotations

import json

from served import ask, get, serving
from tiny_encoders import MEANINGS, onnx_folder, rows_of

from cascade.encoders import fetching
from cascade.learn.fit import fit
from cascade.taxonomy.definition import Taxonomy

TAXONOMY = {
    "name": "tickets",
    "defaults": {"backend": {"kind": "linear", "encoder": "tiny"}},
    "groups": {"things": {"labels": ["money", "post"]}, "moods": {"labels": ["angry", "sun"]}},
}


def figure(port, name):
    lines = get(port, "/metrics")[2].decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name))


def test_a_service_encodes_each_text_once_and_counts_them(home, tmp_path):
    fetching.add(onnx_folder(tmp_path / "tiny"), "tiny")
    texts, labels = rows_of({name: words[:2] for name, words in MEANINGS.items()}, 120, seed=0)
    fit(Taxonomy.from_dict(TAXONOMY), texts, labels, tmp_path / "model")
    with serving(tmp_path / "model") as (port, _):
        started = figure(port, "cascade_encoded_texts")  # the encoder was opened before anybody asked
        assert started > 0
        status, _, body = ask(port, {"texts": ["my cash again", "livid, please"]})
        assert status == 200
        assert [row["labels"] for row in json.loads(body)["rows"]] == [["money"], ["angry"]]
        assert figure(port, "cascade_encoded_texts") == started + 2
        before = figure(port, "cascade_kept_vectors")
        assert ask(port, {"texts": ["my cash again"]})[0] == 200
        assert figure(port, "cascade_encoded_texts") == started + 2
        assert figure(port, "cascade_kept_vectors") == before + 1
