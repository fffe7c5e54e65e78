"""The model folder: what `fit` writes and `predict` reads.

::

    models/feedback/
      manifest.json          everything but the node models, and the sha256 of every file of theirs
      nodes/<content hash>/  one node model, its held-out scores, and node.json with what was settled
      encoders/<sha256>/     an encoder, where the model has it with it
      trunks/<key>/          of a fine-tune of one's own, what the next fit builds on

Node folders are named by the hash of all that made them and appear by a rename, whole or not at all. The
manifest is written last, by a rename too: until then the folder holds the old model.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from cascade.errors import ModelError
from cascade.model.verification import Verification
from cascade.system import locks
from cascade.system.files import writing
from cascade.system.serialization import WAY_OUT, checksummed, read_checksummed
from cascade.taxonomy.settings import TIERS

SCHEMA = 1
NODES = "nodes"
ENCODERS = "encoders"
TRUNKS = "trunks"
MANIFEST = "manifest.json"
NODE = "node.json"
# 3,200 files of 270 nodes took 4 s one by one, and 0.4 s eight at a time.
FLUSHED_AT_ONCE = 8
_NODE_NAME = re.compile(r"[0-9a-f]{64}")
# A model of several tiers has a folder for each.
_FILE_NAME = re.compile(rf"(({'|'.join(TIERS)})/)?[A-Za-z0-9_][A-Za-z0-9_.-]*")
_STAGING_NAME = re.compile(r"\.[0-9a-f]{16}-.*")


@dataclass(frozen=True)
class SecondModel:
    """A second model of a group, which learned from every row.

    Attributes
    ----------
    node, files, notes
        As in `GroupRecord`.
    slopes, offsets
        As there: P(child), whatever group the text belongs to.
    """

    node: str
    files: Mapping[str, str]
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupRecord:
    """What was made for one group.

    Attributes
    ----------
    backend
        ``{"kind": ..., **options}``, as in the taxonomy; kind ``constant`` where nothing varies.
    node
        Name of the node folder.
    files
        sha256 of every file in it, by name.
    negatives
        ``siblings``, ``all`` or ``both``: what was used.
    slopes, offsets
        Calibration of each child: P = sigmoid(slope * logit(score) + offset).
    route_threshold
        Least path probability at which the group is visited, in [0, 1]; 0 at the root and where it always is.
    rows
        Training rows that truly reach the group.
    positives
        Training rows of each child.
    notes
        What the backend settled, such as the penalty.
    seconds
        The second model, where negatives are ``both``.
    """

    backend: Mapping[str, Any]
    node: str
    files: Mapping[str, str]
    negatives: str
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]
    route_threshold: float
    rows: int
    positives: tuple[int, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    second: SecondModel | None = None

    @property
    def nodes(self) -> Mapping[str, Mapping[str, str]]:
        """The files of each of its node folders."""
        second = {} if self.second is None else {self.second.node: self.second.files}
        return {self.node: self.files, **second}


@dataclass(frozen=True)
class FirstLook:
    """A model of words alone beside one with an encoder, for the texts that it hardly doubts.

    Attributes
    ----------
    doubt
        The greatest doubt, see `cascade.model.looks.doubts_of`, at which its answer stands.
    share
        Of the rows with out-of-fold scores how many it answered, in [0, 1].
    loss
        The micro F1 that this lost among them, below 0 where it won some.
    groups, thresholds, combination, exclusive, least_known
        As in `Manifest`.
    tier
        What it knows, of `cascade.taxonomy.settings.TIERS`.
    first_look
        What answers before it; None where nothing does.
    """

    doubt: float
    share: float
    loss: float
    groups: Mapping[str, GroupRecord]
    thresholds: Mapping[str, float]
    combination: Mapping[str, Any]
    exclusive: tuple[str, ...]
    least_known: float | None
    tier: str = "words"
    first_look: FirstLook | None = None

    @property
    def all(self) -> tuple[FirstLook, ...]:
        """It and those before it, the cheapest first."""
        return (*(self.first_look.all if self.first_look is not None else ()), self)


@dataclass(frozen=True)
class Manifest:
    """All of a model but the node models themselves.

    Attributes
    ----------
    taxonomy
        The whole taxonomy, in the format of its file.
    nodes
        The column order of every score array: groups without the root, then labels.
    groups
        One record for each group, the root under the empty name.
    thresholds
        Least probability at which a label (or, for `back_off`, a group) is chosen, in [0, 1].
    metrics
        Out-of-fold figures: ``rows``, ``micro_f1``, ``macro_f1`` and ``f1`` for each label.
    suspicious
        Training labels that out-of-fold scores contradict most, worst first: row, label, given, probability.
    seed
        Fixes every random choice.
    versions
        Of this package and of those whose numbers went into the model.
    readings
        How the training files were read, see `cascade.rows.readings.Reading`, each once.
    combination
        How probabilities of labels come from what speaks for them, see `cascade.validation.combination`;
        None, as in models of 0.4 and before: they are the path probabilities.
    exclusive
        Contests, see `cascade.model.contests.contest_of`, of which a text has one label at most.
    promises
        Of labels whose threshold is ``{precision: ...}``: ``{"precision", "bound"}``, the promise and what
        the precision is at least, None where the rows were too few for any promise.
    least_known
        The share of a text, in [0, 1], that its embedded models have to know more of than this to say
        anything; None in models of releases before 0.5, which always answer.
    encoders
        Of a model that has its encoders with it: the sha256 of the files of each, by name, under its own.
    first_look
        What answers the texts that need no encoder; None where there is no such model.
    trunks
        The names of the trunks that its heads belong to, which predictions do not need.
    verification
        What is asked about doubtful labels again, and what that changes; None where the taxonomy has no such.
    is_calibrated
        Whether rows have settled probabilities and thresholds; if not, they are what a language model states.
    """

    taxonomy: Mapping[str, Any]
    nodes: tuple[str, ...]
    groups: Mapping[str, GroupRecord]
    thresholds: Mapping[str, float]
    metrics: Mapping[str, Any]
    suspicious: tuple[Mapping[str, Any], ...]
    seed: int
    versions: Mapping[str, str]
    readings: tuple[Mapping[str, Any], ...] = ()
    combination: Mapping[str, Any] | None = None
    exclusive: tuple[str, ...] = ()
    promises: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    least_known: float | None = None
    encoders: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    first_look: FirstLook | None = None
    trunks: tuple[str, ...] = ()
    is_calibrated: bool = True
    verification: Verification | None = None
    schema: int = SCHEMA

    @property
    def asks_again(self) -> bool:
        """Whether labels that are in doubt are asked about again."""
        return self.verification is not None and self.verification.is_used


def digest_of_file(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file in a folder and the folders in it; an empty one for what is no file.

    A pipe would never end.
    """
    found = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    names = (path.relative_to(folder).as_posix() for path in found)
    return {
        name: digest_of_file(path) if path.is_file() else "" for name, path in zip(names, found, strict=True)
    }


def write_node(root: Path, key: str, write: Callable[[Path], Mapping[str, Any]]) -> None:
    """Make node folder `key`: `write` fills a temporary folder and answers the notes of its ``node.json``.

    What a loss of power leaves half written is not `whole_node`; `write_manifest` has the disk hold all that
    it names.
    """
    nodes = root / NODES
    with writing(nodes / key):
        nodes.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{key[:16]}-", dir=nodes))
    try:
        notes = dict(write(staging))
        with writing(nodes / key):
            _put_in_place(root, key, staging, notes)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(root: Path, key: str, staging: Path, notes: Mapping[str, Any]) -> None:
    record = {"schema": SCHEMA, "notes": notes, "files": _digests(staging)}
    (staging / NODE).write_bytes(checksummed(record))
    staging.chmod(0o755)
    place = root / NODES / key
    if whole_node(root, key) is None:  # else a worker of a fit that was killed came first
        _remove(place)
        staging.rename(place)


def _remove(path: Path) -> None:
    """Remove whatever stands there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the disk hold what was written before a rename makes it count."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_nodes(nodes: Path, keys: Set[str]) -> None:
    """Have the disk hold these node folders.

    There may be thousands of small files, and a disk that is told of many at once writes them together.
    """
    folders = [nodes / key for key in keys if (nodes / key).is_dir()]
    paths = [path for folder in folders for path in (*folder.rglob("*"), folder)]
    with ThreadPoolExecutor(FLUSHED_AT_ONCE) as pool:
        list(pool.map(_flush, [*paths, nodes] if folders else []))


def whole_node(root: Path, key: str) -> Mapping[str, Any] | None:
    """The notes in ``node.json`` of node folder `key`, or None where it is not there as it was written."""
    folder = root / NODES / key
    try:
        record = read_checksummed(folder / NODE, SCHEMA)
        found = {name: digest for name, digest in _digests(folder).items() if name != NODE}
    except (ModelError, OSError):
        return None
    notes = record.get("notes")
    return notes if isinstance(notes, dict) and record.get("files") == found else None


def node_files(root: Path, key: str) -> dict[str, str]:
    """The sha256 of every file of a node folder, by name."""
    return _digests(root / NODES / key)


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Put the manifest in place, whole, and drop the node folders that it does not name."""
    temporary = root / f".{MANIFEST}.{os.getpid()}"
    with writing(root / MANIFEST):
        _flush_nodes(root / NODES, nodes_of(manifest).keys())
        temporary.write_bytes(_content(manifest))
        _flush(temporary)
        temporary.replace(root / MANIFEST)
        _flush(root)
    _tidy(root / NODES, nodes_of(manifest).keys())
    if (root / ENCODERS).is_dir():
        _tidy(root / ENCODERS, manifest.encoders.keys())
    if (root / TRUNKS).is_dir():
        _tidy(root / TRUNKS, set(manifest.trunks))
    for left in root.glob(f".{MANIFEST}.*"):
        left.unlink(missing_ok=True)


def _tidy(folder: Path, kept: Set[str]) -> None:
    """Drop what is named by a hash and not kept, and what was left in the making."""
    for path in folder.iterdir():
        ours = _NODE_NAME.fullmatch(path.name) or _STAGING_NAME.fullmatch(path.name)
        if ours and path.name not in kept:
            _remove(path)


def digest_of(manifest: Manifest) -> str:
    """The sha256 of the file that `write_manifest` makes, in hex."""
    return hashlib.sha256(_content(manifest)).hexdigest()


def nodes_of(manifest: Manifest) -> dict[str, Mapping[str, str]]:
    """The files of all node folders, by name."""
    looks = () if manifest.first_look is None else manifest.first_look.all
    records = (*manifest.groups.values(), *(record for look in looks for record in look.groups.values()))
    return {node: files for record in records for node, files in record.nodes.items()}


def _content(manifest: Manifest) -> bytes:
    content = {**vars(manifest), "groups": _groups_content(manifest.groups)}
    for name in ("encoders", "trunks"):
        if not content[name]:
            del content[name]
    if manifest.is_calibrated:
        del content["is_calibrated"]
    if manifest.verification is None:
        del content["verification"]
    else:
        content["verification"] = vars(manifest.verification)
    if manifest.first_look is None:
        del content["first_look"]
    else:
        content["first_look"] = _look_content(manifest.first_look)
    return checksummed(content)


def _look_content(look: FirstLook) -> dict[str, Any]:
    """That of words alone before one other look is written as it was before there were more."""
    content = {**vars(look), "groups": _groups_content(look.groups)}
    if look.tier == "words":
        del content["tier"]
    if look.first_look is None:
        del content["first_look"]
    else:
        content["first_look"] = _look_content(look.first_look)
    return content


def _groups_content(groups: Mapping[str, GroupRecord]) -> dict[str, Any]:
    return {name: _content_of(record) for name, record in groups.items()}


def _content_of(record: GroupRecord) -> dict[str, Any]:
    second = record.second
    return {**vars(record), "second": None if second is None else vars(second)}


def read_manifest(root: Path) -> Manifest:
    """The manifest of a model folder.

    Raises
    ------
    ModelError
        There is none, it was changed, or another version of this package wrote it.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise ModelError(
            f"{root}: no model here (no {MANIFEST}). "
            "Run `cascade fit TAXONOMY`, or name another folder with --model."
        )
    value = read_checksummed(path, SCHEMA)
    try:
        return _manifest(value)
    except (TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a manifest: {error}. {WAY_OUT}") from error


_MANIFEST_TYPES = {
    "taxonomy": dict,
    "nodes": list,
    "groups": dict,
    "thresholds": dict,
    "metrics": dict,
    "suspicious": list,
    "seed": int,
    "versions": dict,
}
_GROUP_TYPES = {
    "backend": dict,
    "node": str,
    "files": dict,
    "negatives": str,
    "slopes": list,
    "offsets": list,
    "route_threshold": float,
    "rows": int,
    "positives": list,
    "notes": dict,
}

_FIRST_LOOK_TYPES = {
    "doubt": float,
    "share": float,
    "loss": float,
    "groups": dict,
    "thresholds": dict,
    "combination": dict,
    "exclusive": list,
}


def _manifest(value: Mapping[str, Any]) -> Manifest:
    _check_types(value, _MANIFEST_TYPES)
    lists_of_old: dict[str, Any] = {"readings": [], "exclusive": [], "trunks": []}
    rest_of_old: dict[str, Any] = {"promises": {}, "combination": None, "encoders": {}, "is_calibrated": True}
    value = {**lists_of_old, **rest_of_old, **value}
    types = {"promises": dict, "encoders": dict, "is_calibrated": bool}
    _check_types(value, {**dict.fromkeys(lists_of_old, list), **types})
    _check_types(value["encoders"], dict.fromkeys(value["encoders"], dict))
    if value.get("least_known") is not None:
        _check_types(value, {"least_known": float})
    lists = {name: tuple(value[name]) for name in ("nodes", "suspicious", *lists_of_old)}
    first_look = None if value.get("first_look") is None else _first_look(value["first_look"])
    verification = None if value.get("verification") is None else Verification.of(value["verification"])
    made = {"groups": _groups(value["groups"]), "first_look": first_look, "verification": verification}
    return Manifest(**{**value, **lists, **made})


def _first_look(value: Mapping[str, Any]) -> FirstLook:
    _check_types(value, _FIRST_LOOK_TYPES)
    if value.get("least_known") is not None:
        _check_types(value, {"least_known": float})
    _check_types({"tier": "words", **value}, {"tier": str})
    inner = None if value.get("first_look") is None else _first_look(value["first_look"])
    exclusive, groups = tuple(value["exclusive"]), _groups(value["groups"])
    return FirstLook(**{**value, "exclusive": exclusive, "groups": groups, "first_look": inner})


def _groups(records: Mapping[str, Mapping[str, Any]]) -> dict[str, GroupRecord]:
    return {name: _group(record) for name, record in records.items()}


def _group(record: Mapping[str, Any]) -> GroupRecord:
    _check_types(record, _GROUP_TYPES)
    lists = {name: tuple(record[name]) for name in ("slopes", "offsets", "positives")}
    return GroupRecord(**{**record, **lists, "second": _second(record.get("second"))})


def _second(record: Mapping[str, Any] | None) -> SecondModel | None:
    if record is None:
        return None
    _check_types(record, {one.name: _GROUP_TYPES[one.name] for one in fields(SecondModel)})
    return SecondModel(**{**record, **{name: tuple(record[name]) for name in ("slopes", "offsets")}})


def _check_types(value: Mapping[str, Any], types: Mapping[str, type]) -> None:
    """TypeError at the first entry that is missing or of another type."""
    for name, expected in types.items():
        found = value.get(name)
        if not isinstance(found, expected):
            raise TypeError(f"{name!r}: expected {expected.__name__}, found {type(found).__name__}")


def node_folders(root: Path, manifest: Manifest) -> dict[str, Path]:
    """Every node folder by its name, after each file of it was found as the manifest says.

    Raises
    ------
    ModelError
        A file is missing or was changed, or the manifest names something outside the model folder.
    """
    # Hashing lets other threads run meanwhile, and disks are faster when asked for several files at once.
    nodes = nodes_of(manifest)
    for digest, files in manifest.encoders.items():
        _checked_folder(root, ENCODERS, digest, files)
    with ThreadPoolExecutor() as pool:
        folders = pool.map(partial(_checked_folder, root, NODES), nodes, nodes.values())
        return dict(zip(nodes, folders, strict=True))


def _checked_folder(root: Path, kind: str, node: str, files: Mapping[str, str]) -> Path:
    if not _NODE_NAME.fullmatch(node):
        raise ModelError(
            f"{root / MANIFEST}: {node!r} is no name of a {kind.removesuffix('s')} folder. {WAY_OUT}"
        )
    folder = root / kind / node
    for name, digest in files.items():
        if not _FILE_NAME.fullmatch(name):
            raise ModelError(f"{root / MANIFEST}: {name!r} is no file name of ours. {WAY_OUT}")
        _check_file(folder / name, digest)
    return folder


def _check_file(path: Path, digest: str) -> None:
    if not path.is_file():
        raise ModelError(f"{path}: missing. {WAY_OUT}")
    try:
        found = digest_of_file(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}. {WAY_OUT}") from error
    if found != digest:
        raise ModelError(f"{path}: changed since it was written. {WAY_OUT}")


def files_of(root: Path, manifest: Manifest) -> tuple[str, ...]:
    """Every file of a model, relative to its folder, after it was found as the manifest says.

    Raises
    ------
    ModelError
        The folder holds another model by now, or a damaged one.
    """
    if read_manifest(root) != manifest:
        raise ModelError(f"{root}: another model was written here since this one was loaded. Load it again.")
    node_folders(root, manifest)
    return (MANIFEST, *sorted(node_file_names(manifest)))


def node_file_names(manifest: Manifest) -> set[str]:
    """The files of all node folders and of encoders that are there, relative to the model folder."""
    found = {f"{NODES}/{node}/{name}" for node, files in nodes_of(manifest).items() for name in files}
    encoders = manifest.encoders.items()
    return found | {f"{ENCODERS}/{digest}/{name}" for digest, files in encoders for name in files}


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep two `fit` runs from writing to one folder; the lock goes with the process that holds it."""
    root.mkdir(parents=True, exist_ok=True)
    taken = f"{root}: another `cascade fit` is writing here. Wait for it, or name another --out."
    with locks.locked(root / ".lock", ModelError(taken)):
        yield
