"""From lessons to heads: a trunk is trained, or the last one of the model folder is built on.

A trunk that was trained on nearly the same rows stays: heads whose lessons did not change stay with it, and
the others are taught anew on what it makes of texts, which takes seconds and no torch.

What encodes is imported where it is needed: a fit of words alone loads none of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cascade.encoders.contract import Encoder
from cascade.encoders.settings import Stored
from cascade.errors import BackendError
from cascade.system.array_types import BoolArray
from cascade.text.normal import normal_forms
from cascade.text.texts import Texts
from cascade.trunk.heads import Head, Lesson, Weights, taught
from cascade.trunk.settings import TrunkSettings
from cascade.trunk.trunks import TRUNKS, Digests, Trunk, digest_of, trunks_in

if TYPE_CHECKING:
    from cascade.trunk.training import Course, Progress

# Raised when the same rows would give another trunk.
VERSION = 1
# With a larger share of new rows a trunk is trained anew.
MOST_NEW = 0.2
# So many rows that a trunk has seen teach a head alone, besides all that it has not: seconds, not minutes.
SEEN_TAUGHT = 4_000
ALL = "\n"
"""What the name of a lesson ends in that every row teaches; no name of a group has a line break."""
EXTRA = "pip install 'cascade-classifier[train]'"


class Listener(Protocol):
    """Who wants to know how a training goes on."""

    def at(self, step: int, steps: int, loss: float, seconds_left: float) -> None:
        """So many steps of so many are taken."""
        ...

    def say(self, line: str) -> None:
        """Something that people should know."""
        ...


class Nobody:
    """A listener that does not listen."""

    def at(self, step: int, steps: int, loss: float, seconds_left: float) -> None:
        """Forget it."""

    def say(self, line: str) -> None:
        """Forget it."""


@dataclass(frozen=True, eq=False)
class Taught:
    """What the heads of one trunk have to learn.

    Attributes
    ----------
    texts, digests
        Those that all lessons share, and a hash of each.
    lessons
        By group; under its name with `ALL` behind it what tells its children from all other rows.
    children
        The names of the columns of each.
    held_out
        bool, shape (n_texts,): rows that must not be seen.
    seed
        Fixes every random choice.
    """

    texts: Texts
    digests: Digests
    lessons: Mapping[str, Lesson]
    children: Mapping[str, Sequence[str]]
    held_out: BoolArray
    seed: int

    def hashes(self) -> dict[str, str]:
        """What each lesson teaches by rows that are not held out."""
        return {
            name: digest_of(
                lesson.without(self.held_out), self.children[name], self.digests, positives=name.endswith(ALL)
            )
            for name, lesson in self.lessons.items()
        }

    def rows(self) -> BoolArray:
        """Which of the texts teach anything, bool, shape (n_texts,)."""
        found = np.zeros(len(self.texts), dtype=bool)
        for lesson in self.lessons.values():
            found[lesson.rows] = True
        return found & ~self.held_out


@dataclass(frozen=True)
class Trainer:
    """How trunks are trained.

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    retrain
        Train anew even where the last trunk could be built on.
    threads
        How many encode.
    listener
        Told of every step.
    """

    device: str = "auto"
    retrain: bool = False
    threads: int | None = None
    listener: Listener = field(default_factory=Nobody)

    def last(self, root: Path, settings: TrunkSettings, seed: int) -> list[Trunk]:
        """The trunks of a model folder that were trained with these settings."""
        origin = _origin(settings, seed)
        return [one for one in trunks_in(root) if one.origin == origin and _encoder_of(root, one) is not None]

    def held_out(
        self, root: Path, settings: TrunkSettings, seed: int, digests: Digests, held_out: BoolArray
    ) -> BoolArray:
        """Which rows to hold out: none that the last trunk was taught by, all that it was not to see."""
        for trunk in [] if self.retrain else self.last(root, settings, seed):
            seen, unseen = trunk.knows(digests)
            if (~(seen | unseen)).sum() <= MOST_NEW * len(digests):
                return np.asarray((held_out & ~seen) | unseen)
        return held_out

    def heads(self, root: Path, settings: TrunkSettings, what: Taught) -> tuple[Trunk, dict[str, Head]]:
        """The trunk of these lessons and its heads by name, trained where it has to be.

        Raises
        ------
        BackendError
            A package, a device or the weights of the base are missing, memory is too small, or the training
            diverges.
        ModelError
            The base is damaged, or transformers cannot read it.
        """
        from cascade.encoders import store

        hashes = what.hashes()
        key = _key(_origin(settings, what.seed), hashes, what)
        last = self.last(root, settings, what.seed)
        # One that was built on is not what a whole training makes of these rows.
        last = [one for one in last if not (self.retrain and one.notes.get("built_on"))]
        trunk = next((one for one in last if one.key == key), None)
        if trunk is None and last and not self.retrain:
            trunk = self._extended(root, last[-1], what, hashes, key)
        elif trunk is not None:
            self.listener.say(f"{trunk.name}: trained before on these rows")
        if trunk is None:
            trunk = self._trained(root, settings, what, hashes, key)
        encoder = _encoder_of(root, trunk)
        if encoder is None:
            raise BackendError(f"{root / store.ENCODERS / trunk.encoder}: gone while it was in use")
        return trunk, {name: Head(encoder, weights) for name, weights in trunk.heads.items()}

    def _extended(
        self, root: Path, trunk: Trunk, what: Taught, hashes: Mapping[str, str], key: str
    ) -> Trunk | None:
        """The last trunk with heads for these lessons; None where too many rows are new to it."""
        seen, unseen = trunk.knows(what.digests)
        new = ~(seen | unseen) & what.rows()
        if new.sum() > MOST_NEW * what.rows().sum() or (seen & what.held_out).any():
            return None
        encoder = _encoder_of(root, trunk)
        kept = {name for name in what.lessons if trunk.lessons.get(name) == hashes[name]}
        heads: dict[str, Weights] = {name: trunk.heads[name] for name in kept}
        groups = {name.removesuffix(ALL) or "top level" for name in set(what.lessons) - kept}
        self.listener.say(
            f"{trunk.name}: as it was trained, with {len(kept)} of its {len(what.lessons)} heads; "
            f"{int(new.sum()):,} new rows teach those of {', '.join(sorted(groups)) or 'none'}; "
            "--retrain-trunk trains all anew"
        )
        for name, lesson in what.lessons.items():
            if name not in kept and encoder is not None:
                heads[name] = self._taught(encoder, lesson.without(what.held_out), what, seen)
        found = replace(
            trunk,
            key=key,
            heads={name: heads[name] for name in what.lessons},
            lessons=dict(hashes),
            notes={**trunk.notes, "built_on": True},
        )
        found.save(root)
        return found

    def _taught(self, encoder: Encoder, lesson: Lesson, what: Taught, seen: BoolArray) -> Weights:
        from cascade.encoders.vectors import vectors_of

        random = np.random.default_rng(what.seed)
        old, new = (np.flatnonzero(seen[lesson.rows] == side) for side in (True, False))
        rows = np.sort(np.concatenate([random.permutation(old)[:SEEN_TAUGHT], new]))
        some = Lesson(lesson.rows[rows], lesson.targets[rows], lesson.exclusive)
        texts = normal_forms(list(what.texts.take(some.rows)))
        return taught(some, vectors_of(encoder, texts, self.threads), what.seed)

    def _trained(
        self, root: Path, settings: TrunkSettings, what: Taught, hashes: Mapping[str, str], key: str
    ) -> Trunk:
        from cascade.trunk.checkpoints import Checkpoints

        course, names = _course(settings, what), list(what.lessons)
        work = root / TRUNKS / f".{key[:16]}-training"
        _clear(root / TRUNKS, work)
        network, best = self._run(course, Checkpoints(work))
        weights = network.weights(course.lessons)
        encoder, precision = self._exported(root, course, network, weights, what)
        trunk = Trunk(
            key,
            _origin(settings, what.seed),
            encoder.settings.sha256,
            encoder.name,
            dict(zip(names, weights, strict=True)),
            dict(hashes),
            np.unique(what.digests[what.rows()].view(np.uint64)[::2]),
            np.unique(np.ascontiguousarray(what.digests[what.held_out]).view(np.uint64)[::2]),
            {"epochs": course.epochs, "precision": best, **precision},
        )
        trunk.save(root)
        shutil.rmtree(work, ignore_errors=True)
        bits = 8 if encoder.settings.alone else 32
        self.listener.say(
            f"{trunk.name}: {course.epochs} epochs of {len(course.rows):,} rows, average precision "
            f"{best:.3f} on rows held out, kept in {bits} bits"
        )
        return trunk

    def _run(self, course: Course, checkpoints: Any) -> tuple[Any, float]:
        """Train to the end; the network and its precision on held-out rows."""
        training_module, network_module = _torch()
        device = training_module.device_of(self.device)
        self.listener.say(
            f"{course.base.name}: training on {device}, {course.epochs} epochs of {len(course.rows):,} rows"
        )
        network = network_module.Network(course.folder, course.base, course.lessons, device)
        training = training_module.Training(course, network)
        started = time.monotonic()

        def tell(progress: Progress) -> None:
            each = (time.monotonic() - started) / progress.taken
            left = each * (progress.steps - progress.step)
            self.listener.at(progress.step, progress.steps, progress.loss, left)

        return network, training.run(checkpoints, tell)

    def _exported(
        self, root: Path, course: Course, network: Any, weights: Sequence[Weights], what: Taught
    ) -> tuple[Stored, dict[str, float]]:
        from cascade.encoders import store
        from cascade.trunk.export import exported
        from cascade.trunk.training import precision_of

        rows = np.flatnonzero(what.held_out)
        texts = normal_forms(list(what.texts.take(rows)))

        def precision(folder: Path, stored: Stored) -> float:
            encoder = store.maker_of("onnx")(folder, stored)
            vectors = encoder.encode(texts, self.threads or 1)
            return precision_of(vectors, rows, course.held_out, weights)

        place = root / store.ENCODERS
        place.mkdir(parents=True, exist_ok=True)
        tuned = replace(course.base, name=f"{course.base.name}-tuned")
        with tempfile.TemporaryDirectory(prefix=".0000000000000000-", dir=place) as name:
            folder = Path(name) / "encoder"
            folder.mkdir()
            stored, found = exported(network.merged(), course.folder, tuned, folder, precision)
            store.put_into(place, folder, stored)
        return stored, found

    def seconds(self, settings: TrunkSettings, what: Taught) -> tuple[int, int, float]:
        """Rows, steps and seconds of a training, by ten measured steps; errors as in `heads`."""
        training_module, _ = _torch()
        course = _course(settings, what)
        seconds = training_module.estimated_seconds(course, self.device)
        return len(course.rows), course.epochs * course.steps_of_epoch, seconds


def _torch() -> tuple[Any, Any]:
    """The modules that need torch; BackendError where that is not installed."""
    try:
        from cascade.trunk import network, training
    except ModuleNotFoundError as error:
        raise BackendError(
            f"a fine-tune of one's own needs the package {error.name!r}. Run: {EXTRA}"
        ) from error
    return training, network


def _course(settings: TrunkSettings, what: Taught) -> Course:
    from cascade.encoders import store

    _torch()
    from cascade.trunk.training import Course

    folder, base = store.weights(settings.base)
    lessons = list(what.lessons.values())
    return Course(
        folder=folder,
        base=base,
        ids=_tokens(folder, base, what.texts),
        lessons=[one.without(what.held_out) for one in lessons],
        held_out=[one.without(~what.held_out) for one in lessons],
        settings=settings,
        seed=what.seed,
    )


def _tokens(folder: Path, base: Stored, texts: Texts) -> list[list[int]]:
    """The tokens of each text, cut to what the base reads."""
    from cascade.encoders.files import read_tokenizer

    settings = base.settings
    tokenizer = read_tokenizer(folder / settings.tokenizer)
    if settings.longest:
        tokenizer.enable_truncation(settings.longest)
    given = [
        settings.prefix + (one.lower() if settings.lowercase else one) for one in normal_forms(list(texts))
    ]
    return [one.ids for one in tokenizer.encode_batch(given, add_special_tokens=settings.specials)]


def _origin(settings: TrunkSettings, seed: int) -> str:
    """The hash of what a trunk is trained with, whatever its rows are."""
    from cascade.encoders import store

    _, base = store.weights(settings.base)
    made_of = [VERSION, base.settings.sha256, settings.key(), seed]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _key(origin: str, hashes: Mapping[str, str], what: Taught) -> str:
    made_of = hashlib.sha256(json.dumps([origin, hashes], sort_keys=True).encode())
    made_of.update(np.unique(what.digests[what.held_out].view(np.uint64)[::2]).tobytes())
    return made_of.hexdigest()


def _encoder_of(root: Path, trunk: Trunk) -> Encoder | None:
    """The tuned encoder of a trunk; None where it is not there any more."""
    from cascade.encoders import store

    if not (root / store.ENCODERS / trunk.encoder / store.RECORD).is_file():
        return None
    return store.opened(trunk.name, trunk.encoder, root / store.ENCODERS)


def _clear(folder: Path, kept: Path) -> None:
    """Take away what other trainings left that were stopped: their rows are not these."""
    for path in folder.glob(".*-training"):
        if path != kept:
            shutil.rmtree(path, ignore_errors=True)
