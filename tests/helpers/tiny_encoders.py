"""Encoders of a few numbers: words of one meaning share a vector, and all others have none of it.

The ONNX file is written field by field (``onnx.proto3``), so that no test needs a package for it.
"""

from __future__ import annotations

import json
import struct

import numpy as np

MEANINGS = {
    "money": ["refund", "reimburse", "repay", "cash"],
    "post": ["parcel", "package", "delivery", "box"],
    "angry": ["furious", "livid", "cross", "mad"],
    "sun": ["weather", "sunny", "rain", "cloud"],
}
DIMS = 8
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def vocabulary(meanings=MEANINGS):
    words = [word for group in meanings.values() for word in group]
    return {word: number for number, word in enumerate([*SPECIALS, *words, "the", "my", "please", "again"])}


def rare_words(count, seed=0):
    """Words of each meaning whose spelling says nothing of it."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, 7)) for _ in range(count * len(MEANINGS))]
    return {name: words[place * count : (place + 1) * count] for place, name in enumerate(MEANINGS)}


def table(seed=0, meanings=MEANINGS):
    """A vector for each token: that of its meaning, and a little of its own; nothing for the marks."""
    random = np.random.default_rng(seed)
    words = vocabulary(meanings)
    found = 0.2 * random.normal(size=(len(words), DIMS)).astype(np.float32)
    for column, group in enumerate(meanings.values()):
        for word in group:
            found[words[word], column] += 2
    found[[words[mark] for mark in SPECIALS]] = 0.01
    return found


def tokenizer(specials=True, meanings=MEANINGS):
    """A ``tokenizer.json`` that cuts at blanks and marks, in lower case."""
    words = vocabulary(meanings)
    ends = [{"SpecialToken": {"id": mark, "type_id": 0}} for mark in ("[CLS]", "[SEP]")]
    template = {
        "type": "TemplateProcessing",
        "single": [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1]],
        "pair": [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            mark: {"id": mark, "ids": [words[mark]], "tokens": [mark]} for mark in ("[CLS]", "[SEP]")
        },
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template if specials else None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }


# The format of ONNX


def varint(number):
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def field(number, value):
    """A field: a whole number, a text, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, values, beside=None):
    """Weights, in the file or `beside` it in a file of that name."""
    kind = {"float32": 1, "int64": 7}[values.dtype.name]
    found = b"".join(field(1, length) for length in values.shape) + field(2, kind) + field(8, name)
    if beside is None:
        return found + field(9, values.tobytes())
    entries = {"location": beside, "offset": "0", "length": str(values.nbytes)}
    return (
        found
        + b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries.items())
        + field(14, 1)
    )


def value_info(name, kind, axes):
    shape = b"".join(field(1, field(2, axis) if isinstance(axis, str) else field(1, axis)) for axis in axes)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def node(operator, inputs, outputs, domain="", attributes=()):
    found = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    found += field(4, operator) + b"".join(field(5, one) for one in attributes)
    return found + (field(7, domain) if domain else b"")


def number_attribute(name, value):
    return field(1, name) + field(3, value) + field(20, 2)


def network(
    nodes, weights, inputs=("input_ids", "attention_mask"), output=("last_hidden_state", 3), domains=("",)
):
    graph = (
        b"".join(field(1, one) for one in nodes)
        + field(2, "tiny")
        + b"".join(field(5, one) for one in weights)
    )
    graph += b"".join(field(11, value_info(name, 7, ("batch", "sequence"))) for name in inputs)
    axes = ("batch", "sequence", DIMS)[: output[1]] if output[1] == 3 else ("batch", DIMS)
    graph += field(12, value_info(output[0], 1, axes))
    opsets = b"".join(
        field(8, (field(1, domain) if domain else b"") + field(2, 17 if not domain else 1))
        for domain in domains
    )
    return field(1, 8) + field(7, graph) + opsets


def gather(seed=0, meanings=MEANINGS, **settings):
    """A network that looks up the vector of each token."""
    lookup = node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    return network([lookup], [tensor("table", table(seed, meanings))], **settings)


def sociable():
    """A network whose vectors depend on the other texts of a batch: each is less the mean of all."""
    lookup = node("Gather", ["table", "input_ids"], ["found"])
    axes = field(1, "axes") + field(8, 0) + field(20, 7)
    mean = node("ReduceMean", ["found"], ["mean"], attributes=[axes, number_attribute("keepdims", 1)])
    less = node("Sub", ["found", "mean"], ["less"])
    plus = node("Add", ["less", "table_mean"], ["last_hidden_state"])
    weights = [tensor("table", table()), tensor("table_mean", table().mean(axis=0))]
    return network([lookup, mean, less, plus], weights)


# Folders


def onnx_folder(folder, model=None, meanings=MEANINGS, **configs):
    """A folder as sentence-transformers exports it."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(model or gather(meanings=meanings))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(meanings=meanings)))
    told = {
        "config.json": {"max_position_embeddings": 512},
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": DIMS, "pooling_mode_mean_tokens": True},
        **{f"{name}.json": value for name, value in configs.items()},
    }
    for name, value in told.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return folder


def safetensors(arrays):
    """The bytes of a ``.safetensors`` file."""
    names = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header, data = {}, b""
    for name, array in arrays.items():
        ends = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": names[array.dtype.name], "shape": list(array.shape), "data_offsets": ends}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def static_folder(folder, arrays=None, **config):
    """A folder as Model2Vec writes it."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors(arrays or {"embeddings": table()}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(specials=False)))
    (folder / "config.json").write_text(json.dumps({"normalize": True, **config}))
    return folder


def rows_of(meanings, count, seed, words=2):
    """Texts of words of some meanings among others, and the meaning of each as its label."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        label = str(random.choice(list(meanings)))
        told = (
            random.choice(meanings[label], words).tolist()
            + random.choice(["the", "my", "please", "again"], 3).tolist()
        )
        random.shuffle(told)
        texts.append(" ".join(told))
        labels.append([label])
    return texts, labels


# Weights to train


HIDDEN = 32
BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "vocab_size": 64,
    "hidden_dropout_prob": 0.1,
    "pad_token_id": 0,
}


def bert_weights(seed=0):
    """The tensors of an untrained BERT of some thousand numbers, by the names that they have there."""
    random = np.random.default_rng(seed)

    def matrix(*shape):
        return (0.1 * random.normal(size=shape)).astype(np.float32)

    def dense(name, n_out, n_in):
        return {f"{name}.weight": matrix(n_out, n_in), f"{name}.bias": np.zeros(n_out, dtype=np.float32)}

    def norm(name):
        return {
            f"{name}.weight": np.ones(HIDDEN, dtype=np.float32),
            f"{name}.bias": np.zeros(HIDDEN, dtype=np.float32),
        }

    found = {
        f"embeddings.{name}_embeddings.weight": matrix(rows, HIDDEN)
        for name, rows in (("word", 64), ("position", 24), ("token_type", 2))
    }
    found |= norm("embeddings.LayerNorm") | dense("pooler.dense", HIDDEN, HIDDEN)
    for number in range(2):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            found |= dense(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        found |= dense(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        found |= norm(f"{layer}.attention.output.LayerNorm") | norm(f"{layer}.output.LayerNorm")
        found |= dense(f"{layer}.intermediate.dense", 64, HIDDEN) | dense(f"{layer}.output.dense", HIDDEN, 64)
    return found


def bert_folder(folder, config=None, weights=None):
    """A folder with weights to train, as transformers writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**BERT, **(config or {})}))
    (folder / "model.safetensors").write_bytes(safetensors(weights or bert_weights()))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    return folder


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def in_shards(weights):
    """Two files with half of the tensors each and the index that names them, by name: their bytes."""
    files = {name: SHARDS[place >= len(weights) // 2] for place, name in enumerate(weights)}
    told = {"metadata": {"total_size": sum(one.nbytes for one in weights.values())}, "weight_map": files}
    shards = {
        shard: safetensors({name: one for name, one in weights.items() if files[name] == shard})
        for shard in SHARDS
    }
    return {INDEX: json.dumps(told).encode(), **shards}


def sharded_folder(folder, weights=None):
    """A folder with the same weights to train in two files, as transformers writes large ones."""
    bert_folder(folder)
    (folder / "model.safetensors").unlink()
    for name, content in in_shards(weights or bert_weights()).items():
        (folder / name).write_bytes(content)
    return folder
