"""The kinds of node model, by name; a kind is imported when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.encoders.settings import NAME
from cascade.errors import BackendError, Place, Problem, suggestion
from cascade.hosted import settings
from cascade.hosted.settings import Settings
from cascade.nodes.contract import Backend
from cascade.prompt import settings as prompt_settings
from cascade.prompt.settings import PromptSettings
from cascade.system.shapes import WORDS, Option, either, listed, mapping, whole
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.settings import TIERS, TIERS_OPTION, BackendSpec
from cascade.trunk import settings as trunk_settings

if TYPE_CHECKING:
    from cascade.hosted.asker import Asker
    from cascade.prompt.verdicts import VerdictModel


@dataclass(frozen=True)
class Kind:
    """Where a kind is made, and which options it takes.

    Attributes
    ----------
    maker
        ``module:function``; called with the options, it answers a `Backend`.
    options
        What is known of each option; called with a value, it answers what is wrong with that.
    conflicts
        What is wrong with options that are sound one by one, or an empty string.
    hosted
        Whether its models live at a service: asking them is waiting, and costs money.
    prompted
        Whether its models are asked as they are, in words, so that it learns nothing from rows.
    trained
        Whether its models are heads of a trunk that is trained for all groups, and lies in the model folder.
    version
        Raised when the same rows would give another model: nodes of an older version are not reused.
    """

    maker: str
    options: Mapping[str, Option]
    version: int = 1
    conflicts: Callable[[Mapping[str, Any]], str] = lambda _: ""
    hosted: bool = False
    prompted: bool = False
    trained: bool = False

    @property
    def is_dear(self) -> bool:
        """Whether a fit takes minutes, or money, so that nothing is tried out with it."""
        return self.hosted or self.trained


def _penalties(value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    if values and all(
        isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < 1e6 for one in values
    ):
        return ""
    return f"expected a number above 0 or a list of them, found {value!r}"


_PENALTY = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e6}
_C = Option(
    "The weight of errors against smoothness: a number, or a list to choose from.",
    either(_PENALTY, listed(_PENALTY)),
    _penalties,
)


_OF_SERVICES = ("provider", "base_url", "api_key_env", "concurrency", "limits")


def _encoder(value: Any) -> str:
    if isinstance(value, Mapping):
        from cascade.hosted import embeddings  # who asks no service needs none of it

        return embeddings.complaint(value)
    if isinstance(value, str) and NAME.fullmatch(value):
        return ""
    return (
        "expected the name of an encoder, as `cascade encoders` lists them, or {api: MODEL, ...}, found "
        f"{value!r}"
    )


_ENCODER = Option(
    "The name of an encoder, whose vectors stand beside the words; see `cascade encoders`.",
    either(
        {"type": "string", "pattern": f"^{NAME.pattern}$"},
        mapping(
            {
                "api": WORDS,
                "dimensions": whole(1),
                "prefix": {"type": "string"},
                **{name: settings.OPTIONS[name].shape for name in _OF_SERVICES},
            },
            required=["api"],
        ),
    ),
    _encoder,
)

KINDS: Mapping[str, Kind] = {
    "linear": Kind("cascade.nodes.linear:make", {"C": _C, "encoder": _ENCODER}, version=4),
    "constant": Kind("cascade.nodes.constant:make", {}),
    "encoder": Kind(
        "cascade.trunk.backend:make", trunk_settings.OPTIONS, conflicts=trunk_settings.conflicts, trained=True
    ),
    "openai": Kind(
        "cascade.hosted.backend:make", settings.OPTIONS, conflicts=settings.conflicts, hosted=True
    ),
    "prompt": Kind(
        "cascade.prompt.backend:make",
        prompt_settings.OPTIONS,
        conflicts=prompt_settings.conflicts,
        hosted=True,
        prompted=True,
    ),
}
CHOOSABLE = ("linear", "encoder", "openai", "prompt")


def faults_of(taxonomy: Taxonomy) -> list[Problem]:
    """What is wrong with the looks, the tiers and the second pass that a taxonomy names."""
    return [*_tier_faults(taxonomy), *_verify_faults(taxonomy)]


def _tier_faults(taxonomy: Taxonomy) -> list[Problem]:
    """What is wrong with the looks and the tiers that a taxonomy and its groups name under `escalate`."""
    own, found = own_tier(taxonomy), []
    if taxonomy.escalate and taxonomy.escalate[-1] != own:
        fault = (
            f"escalate ends with {taxonomy.escalate[-1]!r}, and the backends of the groups know {own!r} at "
            "most: the last look is what they say"
        )
        found.append(Problem(Place(taxonomy.source), fault))
    for group in taxonomy.groups.values():
        above = None if group.within is None else taxonomy.groups[group.within]
        is_own = above is None or (group.escalate, group.backend) != (above.escalate, above.backend)
        if group.escalate and is_own and (fault := _group_tier_fault(group.backend, group.escalate)):
            whose = f"group {group.name!r}" if group.name else "`defaults`"
            found.append(Problem(group.places[0], f"escalate of {whose} {fault}"))
    return found


def _group_tier_fault(spec: BackendSpec, tiers: Sequence[str]) -> str:
    """What is wrong with tiers before a backend, or an empty string."""
    if spec.kind == "encoder":
        return (
            "stands with a fine-tune of your own, whose heads have the words beside them already: leave it "
            "away, or name another backend"
        )
    encodes_too = spec.options.get("encoder") is not None
    own = spec.kind if spec.kind in TIERS else ("encoder" if encodes_too else "words")
    if own == "words":
        return (
            "stands with a linear model of words alone, and nothing is cheaper: name an encoder, as in "
            "`backend: {kind: linear, encoder: minilm}`, or leave it away"
        )
    if tiers[-1] != own:
        return (
            f"ends with {tiers[-1]!r}, and its backend is {_called(spec)}: the last tier is the backend, "
            f"so that it would have to be {own!r}"
        )
    dear = [one for one in tiers[:-1] if one not in ("words", "encoder")]
    if dear:
        return f"has {dear[0]!r} before {tiers[-1]!r}; expected words, encoder or both before it"
    if "encoder" in tiers[:-1] and encoder_of(spec.options) is None:
        return (
            f"has 'encoder', and its backend names none: write `backend: {{kind: {spec.kind}, ..., encoder: "
            "minilm}`, see `cascade encoders`"
        )
    return ""


def _called(spec: BackendSpec) -> str:
    """A backend, as far as tiers are concerned."""
    return "linear with an encoder" if spec.kind == "linear" else spec.kind


_OF_ONE_LABEL = ("examples", "encoder", "shortlist", "samples")


def _verify_faults(taxonomy: Taxonomy) -> list[Problem]:
    """What is wrong with what is asked about doubtful labels again."""
    if taxonomy.verify is None:
        return []
    spec = taxonomy.verify.backend
    return [
        Problem(
            spec.place or Place(taxonomy.source),
            f"verify: option {name!r}: a label is asked about alone, once, without examples. Leave it away",
        )
        for name in _OF_ONE_LABEL
        if name in spec.options
    ]


def complaints(kind: str, options: Mapping[str, Any]) -> Iterable[str]:
    """What is wrong with a backend as a taxonomy names it, one sentence for each fault."""
    if kind not in CHOOSABLE:
        hint = suggestion(kind, CHOOSABLE)
        yield f"unknown backend {kind!r}, expected one of: {', '.join(CHOOSABLE)}.{hint}"
        return
    known, found = KINDS[kind].options, []
    for name, value in options.items():
        if name not in known:
            hint = suggestion(name, known)
            found.append(f"backend {kind!r} has no option {name!r}; it has: {', '.join(known)}.{hint}")
        elif wrong := known[name](value):
            found.append(f"option {name!r} of backend {kind!r}: {wrong}")
    if not found and (wrong := KINDS[kind].conflicts(options)):
        found.append(f"backend {kind!r}: {wrong}")
    yield from found


def encoder_of(options: Mapping[str, Any]) -> str | None:
    """The encoder of this machine that the options of a backend name."""
    named = options.get("encoder")
    return named if isinstance(named, str) else None


def base_of(options: Mapping[str, Any]) -> str | None:
    """The weights of this machine that the options of a backend would train."""
    named = options.get("base")
    return named if isinstance(named, str) else None


def service_of(kind: str, options: Mapping[str, Any]) -> Settings | None:
    """Where and what the models of a backend are asked; None of embedded ones."""
    if not KINDS[kind].hosted:
        return None
    plain = {name: value for name, value in options.items() if name != TIERS_OPTION}
    return PromptSettings.of(plain).service if KINDS[kind].prompted else Settings.of(plain)


_NAMED = 3


@dataclass(frozen=True)
class NamedBackend:
    """A backend, with its kind and options, and who has it: groups or ``verify``, after its place if any."""

    who: str
    backend: Mapping[str, Any]


def check_keys(asked: Iterable[NamedBackend]) -> None:
    """Have a key that is missing told before anything else is done; embedded backends need none.

    Raises
    ------
    BackendError
        The variable with the key of some is not set, or empty: a line for each of these backends.
    """
    services = []
    for one in asked:
        options = {name: value for name, value in one.backend.items() if name != "kind"}
        settings = service_of(one.backend["kind"], options)
        if settings is not None:
            services.append((one.who, settings))
    if not services:
        return
    from cascade.hosted.client import key_fault  # who asks no service needs none of it

    lines = [f"{who}: {fault}" for who, settings in services if (fault := key_fault(settings))]
    if lines:
        raise BackendError("\n".join(lines))


def named_backends(groups: Iterable[tuple[str, Mapping[str, Any]]], place: str = "") -> list[NamedBackend]:
    """The backends of groups, each once, with those who have it."""
    found: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for group, backend in groups:
        found.setdefault(repr(backend), ([], backend))[0].append(group or "top level")
    return [NamedBackend(f"{place}{_listed(names)}", backend) for names, backend in found.values()]


def written_backends(taxonomy: Taxonomy) -> list[NamedBackend]:
    """The backends that stand in a taxonomy, each with its place and the groups that have it."""
    specs = [
        (group, taxonomy.groups[group].backend)
        for group in taxonomy.graph.groups
        if taxonomy.scored_children(group)
    ]
    if taxonomy.verify is not None:
        specs.append(("verify", taxonomy.verify.backend))
    places = dict.fromkeys(spec.place for _, spec in specs)
    return [
        one
        for place in places
        for one in named_backends(
            ((who, {"kind": spec.kind, **spec.options}) for who, spec in specs if spec.place == place),
            f"{place}: ",
        )
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def asks_service(options: Mapping[str, Any]) -> bool:
    """Whether the encoder of a backend is a service, so that new texts cost money."""
    return isinstance(options.get("encoder"), Mapping)


def encodes(backend: Mapping[str, Any]) -> bool:
    """Whether a backend, with its kind and options, reads vectors of texts."""
    return backend["kind"] == "encoder" or backend.get("encoder") is not None


def tier_of(taxonomy: Taxonomy, tier: str) -> Taxonomy | None:
    """The taxonomy of a cheaper look: by words alone, or by words and their encoders.

    None where it would be the same: no group has anything dearer.
    """
    specs = {name: _cheaper(group.backend, tier) for name, group in taxonomy.groups.items()}
    if all(specs[name] == group.backend for name, group in taxonomy.groups.items()):
        return None
    groups = {name: replace(group, backend=specs[name]) for name, group in taxonomy.groups.items()}
    return replace(taxonomy, groups=groups, first_look=None)


def _cheaper(spec: BackendSpec, tier: str) -> BackendSpec:
    """The backend of a group in a look that knows no more than `tier`."""
    asked = spec.kind in KINDS and KINDS[spec.kind].hosted
    if tier == "encoder" and not asked:
        return spec
    taken = ("encoder", TIERS_OPTION)
    options = {} if asked else {name: value for name, value in spec.options.items() if name not in taken}
    if tier == "encoder" and (encoder := encoder_of(spec.options)) is not None:
        options["encoder"] = encoder
    return replace(spec, kind="linear" if asked else spec.kind, options=options)


def next_tier(taxonomy: Taxonomy, tier: str) -> tuple[str, Taxonomy] | None:
    """The look before that of a tier, by what the taxonomy names under `escalate`; None where there is none.

    Without that key words alone come before encoders, and nothing before a service, or where groups have
    tiers of their own: who named these said where words are enough.
    """
    if any(group.escalate for group in taxonomy.groups.values()):
        return None
    order = taxonomy.escalate or ("words", "encoder")
    if tier not in order:
        return None
    for name in reversed(order[: order.index(tier)]):
        found = tier_of(taxonomy, name)
        if found is not None:
            return name, found
    return None


def own_tier(taxonomy: Taxonomy) -> str:
    """What the groups' own backends know: the dearest tier of any of them."""
    found = {"words"}
    for group in taxonomy.groups.values():
        kind = group.backend.kind
        if kind in TIERS:
            found.add(kind)
        if kind == "linear" and group.backend.options.get("encoder") is not None:
            found.add("encoder")
    return max(found, key=TIERS.index)


def make_backend(
    kind: str, options: Mapping[str, Any] | None = None, encoders: Path | None = None
) -> Backend:
    """The backend of that kind; BackendError where the kind is unknown or a package of its own is missing.

    `encoders` is a folder that may hold the encoder that the options name; it is looked at first.
    """
    if kind not in KINDS:
        raise BackendError(f"unknown backend {kind!r}, expected one of: {', '.join(KINDS)}.")
    module, function = KINDS[kind].maker.split(":")
    try:
        maker = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"backend {kind!r} needs the package {error.name!r}. Run: pip install {error.name}"
        ) from error
    given: dict[str, Any] = dict(options or {})
    tiers = given.pop(TIERS_OPTION, None)
    if asks_service(given):
        from cascade.hosted.embeddings import ApiEncoder  # who asks no service needs none of it

        given["encoder"] = ApiEncoder.of(given["encoder"])
    elif encoders is not None and (encoder_of(given) or KINDS[kind].trained):
        given["encoders"] = encoders
    backend: Backend = maker(**given)
    return backend if tiers is None else _tiered(BackendSpec(kind, options or {}), tiers, backend, encoders)


def _tiered(spec: BackendSpec, told: Mapping[str, Any], backend: Backend, encoders: Path | None) -> Backend:
    """A backend with cheaper tiers before it."""
    from cascade.tiers.backend import make  # who has no tiers needs none of it

    *names, last = told["tiers"]
    cheaper = {name: _cheaper(spec, name) for name in names}
    before = {name: make_backend(one.kind, one.options, encoders) for name, one in cheaper.items()}
    return make({**before, last: backend}, told["most_lost"])


def verdict_model(backend: Mapping[str, Any], asker: Asker | None = None) -> VerdictModel:
    """What says yes or no to single labels, by ``{"kind": "prompt", ...}``."""
    from cascade.prompt.verdicts import VerdictModel  # who asks no service needs none of it

    return VerdictModel(
        PromptSettings.of({name: one for name, one in backend.items() if name != "kind"}), asker
    )
