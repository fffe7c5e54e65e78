"""What commands are given: a taxonomy, labelled rows, a model."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.cli.completion import LAST, MODEL_VARIABLE, MODELS
from cascade.cli.shell import counted, note, progress
from cascade.errors import CascadeError, DataError, ModelError, Place, Problem, TaxonomyError
from cascade.system.files import atomic_write

if TYPE_CHECKING:
    from cascade.model.folder import Manifest
    from cascade.rows.reading import ReadRows
    from cascade.rows.readings import Columns, Reading
    from cascade.rows.row import BadRow
    from cascade.taxonomy.data import DataSpec
    from cascade.taxonomy.definition import Taxonomy
    from cascade.taxonomy.settings import BackendSpec

_NEARBY_MOST = 1000
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_OF_ROWS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".xls", ".ods")


def training_files(taxonomy: Taxonomy, data: Sequence[str]) -> Sequence[str | Path]:
    if not data and not taxonomy.data.train:
        raise DataError(
            f"{taxonomy.source}: names no training rows. Add files under `data: train:`, or give --data FILE."
        )
    return data or taxonomy.data.files("train")


def labelled_rows(
    files: Sequence[str | Path], columns: Columns, taxonomy: Taxonomy, known: Sequence[Reading] = ()
) -> ReadRows:
    """The rows of some files; how they are read and which are refused is told."""
    from cascade.rows.reading import read_all
    from cascade.rows.row import summarise_bad

    with progress("reading"):
        found = read_all(files, columns, taxonomy, known)
    for one in found.readings:
        if one.is_guessed:
            note(one.describe())
    if found.refused:
        note(summarise_bad(found.refused))
    return found


def readings_in(folder: Path) -> Sequence[Reading]:
    """How the rows of the model that a folder holds were read; empty where it holds none that can be read."""
    from cascade.model.folder import read_manifest
    from cascade.rows.readings import Reading

    try:
        return [Reading.from_dict(one) for one in read_manifest(folder).readings]
    except (CascadeError, TypeError):
        return []


def stop_at_refused(refused: Sequence[BadRow], *, skip: bool) -> None:
    if not refused:
        return
    count = counted(len(refused), "bad row")
    if not skip:
        raise DataError(f"{count}. Mend what is listed above, or learn without with --skip-bad-rows.")
    note(f"{count} left out")


def model_words(folder: Path) -> str:
    return "" if _is_last(folder) else f" --model {shlex.quote(str(folder))}"


def load_taxonomy(path: str) -> Taxonomy:
    from cascade.taxonomy.definition import Taxonomy

    if not Path(path).exists():
        raise TaxonomyError([Problem(Place(path), f"no such file.{_nearby(Path(path))}")])
    if _holds_rows(Path(path)):
        words = f"cascade init {shlex.quote(path)}"
        raise TaxonomyError([Problem(Place(path), f"is no taxonomy but data; `{words}` drafts one from it")])
    found = Taxonomy.load(path, check_backend=_backend_faults)
    if found.has_tiers or found.verify is not None:
        from cascade.backends import faults_of  # NumPy comes with it

        if faults := faults_of(found):
            raise TaxonomyError(faults)
    return found


def _holds_rows(path: Path) -> bool:
    """Whether the name is that of rows, or of a table, which no YAML has."""
    plain = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    return path.is_file() and plain.suffix.lower() in _OF_ROWS


def _backend_faults(spec: BackendSpec) -> Iterable[str]:
    from cascade.backends import complaints  # NumPy comes with it

    return complaints(spec.kind, spec.options)


def _nearby(path: Path) -> str:
    """What may have been meant by a path that leads to no file, as a sentence."""
    found: dict[str, Path] = {}
    for folder in dict.fromkeys((path.parent, Path(), *_folders_here())):
        for one in sorted(itertools.islice(folder.glob("*.y*ml"), _NEARBY_MOST)):
            found.setdefault(one.name, one)
    stems = {one.stem: one for one in reversed(found.values())}
    near = get_close_matches(path.name, found, n=1) or get_close_matches(path.stem, stems, n=1)
    if near:
        return f" Did you mean {str(found.get(near[0]) or stems[near[0]])!r}?"
    return f" Found nearby: {', '.join(str(one) for one in list(found.values())[:3])}." if found else ""


def _folders_here() -> list[Path]:
    here = itertools.islice(Path().iterdir(), _NEARBY_MOST)
    return sorted(one for one in here if one.is_dir() and not one.name.startswith("."))


def columns_of(data: DataSpec, *, is_other: bool = False) -> Columns:
    """What a taxonomy tells of the files that it names, or of others."""
    from cascade.rows.readings import Columns

    return Columns.of_others(data) if is_other else Columns.of(data)


def chosen_model(option: Path | None) -> Path:
    """The model folder to use; says which unless it was named.

    Raises
    ------
    ModelError
        None was named, and there is no last one.
    """
    if option is not None:
        return option
    if named := os.environ.get(MODEL_VARIABLE):
        note(f"model: {named} (from ${MODEL_VARIABLE})")
        return Path(named)
    last = _last_model()
    if last is None:
        raise ModelError(
            f"no model to use: neither --model nor ${MODEL_VARIABLE} names one, and no fit wrote one under "
            f"{MODELS}/ here. Run `cascade fit TAXONOMY`, or name a model folder with --model."
        )
    note(f"model: {last} (the last that fit wrote)")
    return last


def _last_model() -> Path | None:
    if not LAST.is_file():
        return None
    name = LAST.read_text("utf-8", errors="replace").strip()
    return MODELS / name if name else None


def remember_last(folder: Path) -> None:
    """Note a model under `MODELS` as the one that was written last."""
    if not folder.resolve().is_relative_to(MODELS.resolve()) or folder.resolve() == MODELS.resolve():
        return
    name = folder.resolve().relative_to(MODELS.resolve()).as_posix()
    with atomic_write(LAST) as file:
        file.write(f"{name}\n".encode())


def _is_last(folder: Path) -> bool:
    last = _last_model()
    return last is not None and last.resolve() == folder.resolve() and not os.environ.get(MODEL_VARIABLE)


def described_model(folder: Path) -> tuple[Taxonomy, Manifest]:
    """What the manifest of a model tells; its files are checked and not loaded, which takes seconds.

    Raises
    ------
    ModelError
        The folder holds no model, or one that is damaged or was written by another version.
    """
    from cascade.model.folder import read_manifest

    manifest = read_manifest(folder)
    while True:
        try:
            return _checked_taxonomy(folder, manifest), manifest
        except ModelError:
            newer = read_manifest(folder)
            if newer == manifest:
                raise
            manifest = newer  # a fit that ended meanwhile took the old files away


def _checked_taxonomy(folder: Path, manifest: Manifest) -> Taxonomy:
    from cascade.model.folder import MANIFEST, node_folders
    from cascade.taxonomy.definition import Taxonomy

    try:
        taxonomy = Taxonomy.from_dict(manifest.taxonomy, source=str(folder / MANIFEST))
    except (TaxonomyError, DataError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise _not_of_this_version(folder / MANIFEST, str(error)) from error
    trained = {group for group in taxonomy.graph.groups if taxonomy.scored_children(group)}
    if manifest.nodes != taxonomy.graph.nodes or set(manifest.groups) != trained:
        raise _not_of_this_version(folder / MANIFEST, "its groups are not those of its taxonomy")
    node_folders(folder, manifest)
    return taxonomy


def _not_of_this_version(path: Path, why: str) -> ModelError:
    return ModelError(f"{path}: not a model of this version: {why}. Run `cascade fit` again.")
