"""Networks of ONNX, as sentence-transformers and others export them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cascade.encoders.base import FileEncoder, unit_length
from cascade.encoders.contract import Listener, Nobody
from cascade.encoders.files import check_files, missing_package
from cascade.encoders.onnx_graph import OUR_DOMAINS, Graph, read_graph
from cascade.encoders.settings import EncoderSettings
from cascade.errors import ModelError
from cascade.system.array_types import FloatArray, IntArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

# Of 1 to 64 texts at once these are the fastest on two cores; more are slower again, as what is computed
# leaves the cache. So many tokens bound the memory of a batch.
BATCH_TEXTS, BATCH_TOKENS = 32, 4096
# So many texts are cut into tokens and sorted by length at once.
_SLICE = 2048
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_POOLED = ("sentence_embedding", "pooler_output")
_TOKENS = ("last_hidden_state", "token_embeddings")


class OnnxEncoder(FileEncoder):
    """An encoder that is a network."""

    def encode(self, texts: Sequence[str], threads: int = 1, listener: Listener | None = None) -> FloatArray:
        """The vectors of texts: see `cascade.encoders.contract.Encoder`."""
        listener, settings = listener or Nobody(), self.settings
        found = np.zeros((len(texts), self.dims), dtype=np.float32)
        with self._opening:
            session, cut = self._session, 0
        pool = ThreadPoolExecutor(threads)
        try:
            for start in range(0, len(texts), _SLICE):
                pieces = self._pieces(texts[start : start + _SLICE])
                cut += pieces.cut
                waiting: list[tuple[IntArray, Future[FloatArray]]] = [
                    (batch, pool.submit(_run, session, pieces.of(batch), settings))
                    for batch in pieces.batches(alone=settings.alone)
                ]
                done = 0
                for batch, vectors in waiting:
                    np.add.at(found, start + pieces.owners[batch], vectors.result() * pieces.shares(batch))
                    done += len(batch)
                    share = done / max(len(pieces.owners), 1)
                    listener.at(start + int(share * min(_SLICE, len(texts) - start)), len(texts))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if cut:
            listener.say(self._told_of_cut(cut, len(texts)))
        return unit_length(found)

    def dims_of_output(self) -> int:
        """How long the vectors of the network are."""
        pieces = self._pieces(["a"])
        return int(_run(self._session, pieces.of(np.arange(1)), self.settings).shape[1])

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        found = super()._tokenizer
        if self.settings.longest:
            found.enable_truncation(self.settings.longest)
        return found

    @cached_property
    def _session(self) -> InferenceSession:
        check_files(self.folder, self.stored)
        return opened(self.folder, self.settings.model)

    def _pieces(self, texts: Sequence[str]) -> _Pieces:
        settings = self.settings
        encodings = self._tokenizer.encode_batch(self._given(texts), add_special_tokens=settings.specials)
        windows = [[one, *one.overflowing][: settings.windows] for one in encodings]
        cut = sum(len(one.overflowing) >= settings.windows for one in encodings)
        return _Pieces(windows, cut)


class _Pieces:
    """Texts in tokens: each is one piece, or several where it is long.

    Attributes
    ----------
    owners
        int64, shape (n_pieces,): the text of each.
    cut
        How many of the texts go on behind their last piece.
    """

    def __init__(self, windows: Sequence[Sequence[Encoding]], cut: int) -> None:
        self._ids = [np.asarray(one.ids, dtype=np.int64) for of_text in windows for one in of_text]
        self.owners = np.repeat(np.arange(len(windows)), [len(of_text) for of_text in windows])
        self.lengths = np.fromiter(map(len, self._ids), dtype=np.int64, count=len(self._ids))
        self.cut = cut

    def of(self, batch: IntArray) -> list[IntArray]:
        """The tokens of these pieces."""
        return [self._ids[piece] for piece in batch.tolist()]

    def shares(self, batch: IntArray) -> FloatArray:
        """What each piece counts for in the vector of its text, shape (n_pieces, 1)."""
        return self.lengths[batch, None].astype(np.float32)

    def batches(self, *, alone: bool) -> Iterator[IntArray]:
        """Pieces of like length, the longest first, so that no thread is left with one of them at the end."""
        order = np.argsort(-self.lengths, kind="stable")
        order = order[self.lengths[order] > 0]
        at = 0
        while at < len(order):
            most = 1 if alone else max(1, min(BATCH_TEXTS, BATCH_TOKENS // int(self.lengths[order[at]])))
            yield order[at : at + most]
            at += most


def _run(session: InferenceSession, tokens: Sequence[IntArray], settings: EncoderSettings) -> FloatArray:
    """The vectors of a batch, of unit length."""
    longest = max(map(len, tokens))
    ids = np.zeros((len(tokens), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(tokens):
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    positions = np.broadcast_to(np.arange(longest, dtype=np.int64), ids.shape)
    given = dict(zip(INPUTS, (ids, mask, np.zeros_like(ids), positions), strict=True))
    feeds = {one.name: given[one.name] for one in session.get_inputs()}
    output = output_of([one.name for one in session.get_outputs()])
    values = np.asarray(session.run([output], feeds)[0], dtype=np.float32)
    return unit_length(values if values.ndim == 2 else _pooled(values, mask, settings.pooling))


def _pooled(values: FloatArray, mask: IntArray, pooling: str) -> FloatArray:
    """One vector for each text of those of its tokens, shape (n_texts, n_tokens, dims)."""
    if pooling == "cls":
        return values[:, 0]
    if pooling == "last":
        return np.asarray(values[np.arange(len(values)), mask.sum(axis=1) - 1])
    if pooling == "max":
        return np.asarray(np.where(mask[:, :, None] > 0, values, -np.inf).max(axis=1), dtype=np.float32)
    weights = mask.astype(np.float32)
    return np.asarray(np.einsum("btd,bt->bd", values, weights) / weights.sum(axis=1, keepdims=True))


def output_of(names: Sequence[str]) -> str:
    """Which output to take: vectors of texts where there are any, else of their tokens."""
    known = (*_POOLED[:1], *_TOKENS)
    return next((name for name in known if name in names), names[0])


def checked_graph(folder: Path, model: str) -> Graph:
    """What a network asks for.

    Raises
    ------
    ModelError
        Its operators would need a library of its own, its weights lie outside the folder, or its inputs are
        none that a text can be made into.
    """
    path = folder / model
    graph = read_graph(path)
    if strange := sorted(graph.domains - OUR_DOMAINS):
        raise ModelError(
            f"{path}: has operators of {strange[0]!r}, which would need a library of their own. Export "
            "it with the standard operators"
        )
    for name in sorted(graph.beside):
        if not _lies_in(folder, name):
            raise ModelError(f"{path}: has weights in {name!r}, outside its folder. Export it in one folder")
    if "input_ids" not in graph.inputs or set(graph.inputs) - set(INPUTS):
        found = ", ".join(graph.inputs) or "none"
        raise ModelError(
            f"{path}: expected the inputs of a text encoder, input_ids and perhaps {', '.join(INPUTS[1:])}; "
            f"found {found}. Export the encoder alone, for feature extraction"
        )
    return graph


def _lies_in(folder: Path, name: str) -> bool:
    """Whether a name is that of a plain file of the folder itself, and no link."""
    path = folder / name
    return bool(name) and Path(name).name == name and path.is_file() and not path.is_symlink()


def opened(folder: Path, model: str) -> InferenceSession:
    """The network, ready to run, with one thread for each call.

    Raises
    ------
    BackendError
        The package ``onnxruntime`` is missing.
    ModelError
        See `checked_graph`; or the runtime cannot run it.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise missing_package("onnxruntime") from error
    checked_graph(folder, model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(folder / model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own kinds share no other root
        raise ModelError(f"{folder / model}: onnxruntime cannot run it: {error}") from error
