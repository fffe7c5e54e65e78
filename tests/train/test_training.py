"""Trainings with torch, of a BERT of some thousand numbers: `make test-train` runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from processes import command, environment
from tiny_encoders import MEANINGS, bert_folder, bert_weights, rows_of, sharded_folder

pytest.importorskip("torch", reason="torch is not installed here: `make test-train` brings it")
pytestmark = pytest.mark.train

import torch  # noqa: E402 - after it is known to be there

from cascade.encoders import fetching, store  # noqa: E402
from cascade.errors import BackendError, ModelError  # noqa: E402
from cascade.fitted import Cascade  # noqa: E402
from cascade.learn.fit import fit  # noqa: E402
from cascade.taxonomy.definition import Taxonomy  # noqa: E402
from cascade.trunk.checkpoints import Checkpoints  # noqa: E402
from cascade.trunk.export import write_network  # noqa: E402
from cascade.trunk.heads import Lesson  # noqa: E402
from cascade.trunk.network import Network  # noqa: E402
from cascade.trunk.settings import TrunkSettings  # noqa: E402
from cascade.trunk.trainer import Trainer  # noqa: E402
from cascade.trunk.training import Course, Training, device_of, vectors_of  # noqa: E402

CPU = torch.device("cpu")
TREE = {
    "name": "shop",
    "defaults": {"backend": {"kind": "encoder", "base": "tiny", "learning_rate": 0.003, "epochs": 6}},
    "groups": {"feelings": {"labels": ["angry", "sun"]}, "things": {"labels": ["money", "post"]}},
}


@pytest.fixture(scope="module", autouse=True)
def tiny(home, tmp_path_factory):
    fetching.add(bert_folder(tmp_path_factory.mktemp("bert")), "tiny", to_train=True)
    return store.weights("tiny")


def course_of(tiny, count=120, **changes):
    folder, base = tiny
    random = np.random.default_rng(0)
    classes = random.integers(3, size=count)
    # The class of a text is its second token, and its length differs.
    ids = [[2, 4 + one, *random.integers(8, 20, size=random.integers(1, 6)).tolist(), 3] for one in classes]
    targets = classes[:, None] == np.arange(3)
    rows, held_out = np.arange(0, count - 20), np.arange(count - 20, count)
    lessons = [Lesson(rows, targets[rows], exclusive=True), Lesson(rows, targets[rows, :2], exclusive=False)]
    others = [
        Lesson(held_out, targets[held_out], exclusive=True),
        Lesson(held_out, targets[held_out, :2], False),
    ]
    settings = TrunkSettings("tiny", epochs=4, learning_rate=0.003, batch_size=8)
    return replace(Course(folder, base, ids, lessons, others, settings, seed=3), **changes)


def trained(course, folder, listener=lambda _: None, network=None):
    network = network or Network(course.folder, course.base, course.lessons, CPU)
    training = Training(course, network)
    return training, training.run(Checkpoints(folder), listener)


def numbers(network):
    return {name: one.detach().numpy().copy() for name, one in network.state().items()}


def assert_same(first, second, atol=0.0):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=atol, err_msg=name)


def test_a_training_learns_what_tells_texts_apart(tiny, tmp_path):
    seen = []
    training, quality = trained(course_of(tiny), tmp_path, seen.append)
    assert quality > 0.95
    assert [one.step for one in seen] == [*range(1, training.steps + 1)]
    assert seen[-1].loss < seen[0].loss / 3


def test_a_seed_gives_the_same_numbers(tiny, tmp_path):
    first, _ = trained(course_of(tiny), tmp_path / "first")
    second, _ = trained(course_of(tiny), tmp_path / "second")
    other, _ = trained(course_of(tiny, seed=4), tmp_path / "third")
    assert_same(numbers(first.network), numbers(second.network))
    assert any((numbers(first.network)[name] != one).any() for name, one in numbers(other.network).items())


@pytest.mark.parametrize("stopped_at", [1, 13, 20, 39])
def test_a_training_that_was_stopped_goes_on_to_the_same_end(tiny, tmp_path, stopped_at):
    whole, quality = trained(course_of(tiny), tmp_path / "whole")

    def stop(progress):
        if progress.step == stopped_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(course_of(tiny), tmp_path / "halves", stop)
    seen = []
    second, again = trained(course_of(tiny), tmp_path / "halves", seen.append)
    assert seen[0].step == stopped_at + 1
    assert again == quality
    assert_same(numbers(whole.network), numbers(second.network))


def test_a_damaged_checkpoint_is_as_good_as_none(tiny, tmp_path):
    whole, _ = trained(course_of(tiny), tmp_path / "whole")
    checkpoints = Checkpoints(tmp_path / "halves")
    checkpoints.save(whole.checkpoint())
    [path] = (tmp_path / "halves").glob("step-*.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    assert checkpoints.load() is None
    again, _ = trained(course_of(tiny), tmp_path / "halves")
    assert_same(numbers(whole.network), numbers(again.network))


def test_a_checkpoint_of_another_network_is_refused(tiny, tmp_path):
    training, _ = trained(course_of(tiny), tmp_path)
    state = training.network.state()
    state.pop("heads.bias")
    with pytest.raises(ModelError, match="another network"):
        training.network.restore(state)


class SmallDevice(Network):
    """A network on a device that has room for three rows."""

    def logits(self, ids):
        if len(ids) > 3 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().logits(ids)


class TooSmallDevice(Network):
    """A network on a device that has room for none."""

    def logits(self, ids):
        raise torch.OutOfMemoryError("CUDA out of memory")


def without_dropout(tmp_path):
    folder = bert_folder(tmp_path / "bert", {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    fetching.add(folder, "plain", to_train=True)
    return store.weights("plain")


def test_batches_that_do_not_fit_a_device_are_halved_and_teach_the_same(tmp_path):
    course = course_of(without_dropout(tmp_path))
    course = replace(course, settings=replace(course.settings, epochs=1))
    whole, _ = trained(course, tmp_path / "whole")
    small = SmallDevice(course.folder, course.base, course.lessons, CPU)
    parts, _ = trained(course, tmp_path / "parts", network=small)
    assert parts.at_once == 2
    rows = np.arange(100, 120)
    np.testing.assert_allclose(
        vectors_of(small, course, rows), vectors_of(whole.network, course, rows), atol=0.02
    )


def test_a_device_without_room_for_a_row_is_told(tiny, tmp_path):
    course = course_of(tiny)
    none = TooSmallDevice(course.folder, course.base, course.lessons, CPU)
    with pytest.raises(BackendError, match=r"cpu: the memory is too small for one row.*smaller base"):
        trained(course, tmp_path, network=none)


def test_a_training_that_diverges_is_told(tmp_path):
    weights = bert_weights()
    weights["embeddings.word_embeddings.weight"][5] = np.inf
    fetching.add(bert_folder(tmp_path / "bert", weights=weights), "broken", to_train=True)
    with pytest.raises(
        BackendError, match=r"diverges: at step \d+ of 52 its loss is nan. Lower learning_rate"
    ):
        trained(course_of(store.weights("broken")), tmp_path / "work")


def test_a_training_ends_with_its_best_epoch(tiny, tmp_path):
    """Nothing is to be learned, so that quality wanders: what is kept is the best, and it stops early."""
    course = course_of(tiny)
    random = np.random.default_rng(5)
    noise = [
        replace(one, targets=random.random(one.targets.shape) < 0.3, exclusive=False)
        for one in course.held_out
    ]
    course = replace(course, held_out=noise, settings=replace(course.settings, epochs=30))
    training, quality = trained(course, tmp_path)
    assert training.step < training.steps
    assert training.step // course.steps_of_epoch == training.best_epoch + 2
    from cascade.trunk.training import quality as quality_of

    assert quality_of(training.network, course) == pytest.approx(quality)


def test_a_large_base_is_tuned_by_low_rank_matrices_and_exported_whole(tiny, tmp_path):
    pytest.importorskip("peft")
    course = course_of(tiny)
    large = Network(course.folder, course.base, course.lessons, CPU, most_tuned_whole=1000)
    before = numbers(large)
    assert not large.is_whole
    assert all("lora" in name or name.startswith("heads.") for name in before)
    training, quality = trained(course, tmp_path / "work", network=large)
    assert quality > 0.9
    large.trunk.eval()
    with torch.no_grad():
        expected = large.vectors(course.ids[:5]).numpy()
    write_network(large.merged(), tmp_path / "model.onnx")
    np.testing.assert_allclose(exported_vectors(tmp_path / "model.onnx", course.ids[:5]), expected, atol=1e-4)
    del training


def exported_vectors(path, ids):
    """Mean-pooled, of unit length, each text alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = []
    for own in ids:
        feeds = {"input_ids": np.array([own]), "attention_mask": np.ones((1, len(own)), dtype=np.int64)}
        mean = session.run(None, feeds)[0][0].mean(axis=0)
        found.append(mean / np.linalg.norm(mean))
    return np.array(found)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_an_exported_trunk_gives_the_vectors_of_the_training(tiny, tmp_path, pooling):
    course = course_of(tiny)
    base = replace(course.base, settings=replace(course.base.settings, pooling=pooling))
    network = Network(course.folder, base, course.lessons, CPU)
    network.trunk.eval()
    with torch.no_grad():
        expected = network.vectors([[2, 5, 6, 3], [2, 7, 3]]).numpy()
    write_network(network.merged(), tmp_path / "model.onnx")
    (tmp_path / "tokenizer.json").write_bytes((course.folder / "tokenizer.json").read_bytes())
    from cascade.trunk.export import settings_of

    encoder = store.maker_of("onnx")(tmp_path, replace(base, settings=settings_of(tmp_path, base)))
    words = {
        number: word
        for word, number in json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"].items()
    }
    texts = [f"{words[5]} {words[6]}", words[7]]
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-4)


def test_weights_in_several_files_are_those_of_one(tiny, tmp_path):
    fetching.add(sharded_folder(tmp_path / "bert"), "parted", to_train=True)
    whole, parted = course_of(tiny), course_of(store.weights("parted"))
    first, second = (Network(one.folder, one.base, one.lessons, CPU) for one in (whole, parted))
    assert_same(numbers(first), numbers(second))
    first, _ = trained(whole, tmp_path / "first", network=first)
    second, quality = trained(parted, tmp_path / "second", network=second)
    assert quality > 0.95
    assert_same(numbers(first.network), numbers(second.network))


def test_a_base_in_several_files_is_fitted_and_answers(tmp_path):
    fetching.add(sharded_folder(tmp_path / "bert"), "parted", to_train=True)
    tree = {**TREE, "defaults": {"backend": {**TREE["defaults"]["backend"], "base": "parted"}}}
    manifest = fit(Taxonomy.from_dict(tree), *rows(), tmp_path / "model")
    assert manifest.metrics["micro_f1"] > 0.9
    assert Cascade.load(tmp_path / "model").predict(["refund cash please"]) == [["money"]]


def test_a_device_that_is_not_here_is_told():
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    with pytest.raises(BackendError, match=r"torch finds no device 'cuda' here\. There is: cpu"):
        device_of("cuda")
    assert device_of("auto").type in ("cpu", "mps")


# The whole way


def rows(count=240, seed=0):
    return rows_of(MEANINGS, count, seed)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "shop"
    lines = []

    class Listener:
        def at(self, step, steps, loss, seconds_left):
            pass

        def say(self, line):
            lines.append(line)

    manifest = fit(Taxonomy.from_dict(TREE), *rows(), folder, trainer=Trainer(listener=Listener()))
    return folder, manifest, lines


def test_a_fine_tune_of_ones_own_learns_and_says_what_it_does(model):
    folder, manifest, lines = model
    assert manifest.metrics["micro_f1"] > 0.9
    assert lines[0] == "tiny: training on cpu, 6 epochs of 216 rows"
    assert "average precision" in lines[1]
    texts, labels = rows(100, seed=1)
    answered = Cascade.load(folder).predict(texts)
    assert np.mean([own == expected for own, expected in zip(answered, labels, strict=True)]) > 0.9
    assert manifest.groups["things"].second is not None
    assert manifest.groups[""].second is None


def test_the_same_rows_and_seed_make_the_same_model(model, tmp_path):
    _, manifest, _ = model
    again = fit(Taxonomy.from_dict(TREE), *rows(), tmp_path / "again")
    assert again == manifest


def test_a_second_fit_trains_nothing(model):
    folder, manifest, _ = model
    assert fit(Taxonomy.from_dict(TREE), *rows(), folder, trainer=Trainer(device="no such")) == manifest


WITHOUT_TORCH = """
import sys
class No:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "peft", "onnx", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, No())
from cascade.cli import main
sys.argv = ["cascade", *sys.argv[1:]]
main()
"""


def without_torch(*words, folder):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=folder,
        check=False,
    )


def written(folder, tree=TREE, count=240, extra=()):
    folder.mkdir(exist_ok=True)
    texts, labels = rows(count)
    found = [*zip(texts, labels, strict=True), *extra]
    lines = [json.dumps({"text": text, "labels": own}) for text, own in found]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "shop.yaml").write_text(json.dumps({**tree, "data": {"train": "rows.jsonl"}}))
    return folder


def test_predicting_and_explaining_need_no_torch(model, tmp_path):
    folder, _, _ = model
    (tmp_path / "input.jsonl").write_text('{"text": "please refund my cash"}\n')
    done = without_torch("predict", "input.jsonl", "--model", folder, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == ["money"]
    done = without_torch("explain", "please refund my cash", "--model", folder, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "refund" in done.stdout


def test_a_moved_model_answers_where_there_is_no_base(model, tmp_path):
    folder, _, _ = model
    Cascade.load(folder).save(tmp_path / "moved")
    (tmp_path / "input.jsonl").write_text('{"text": "the parcel again"}\n')
    done = subprocess.run(
        command("predict", "input.jsonl", "--model", "moved"),
        capture_output=True,
        text=True,
        env=environment(CASCADE_HOME=str(tmp_path / "elsewhere")),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == ["post"]


def test_without_torch_a_fit_says_what_to_install(tmp_path):
    done = without_torch("fit", "shop.yaml", "--out", "model", folder=written(tmp_path / "shop"))
    assert done.returncode == 1
    assert "needs the package 'torch'. Run: pip install 'cascade-classifier[train]'" in done.stderr


def fitted(folder, *words):
    return subprocess.run(
        command("fit", "shop.yaml", "--out", "model", *words),
        capture_output=True,
        text=True,
        env=environment(),
        cwd=folder,
        check=False,
    )


def test_a_new_label_teaches_its_own_head_and_the_router_and_needs_no_torch(tmp_path):
    folder = written(tmp_path / "shop")
    first = fitted(folder)
    assert first.returncode == 0, first.stderr
    before = json.loads((folder / "model" / "manifest.json").read_text())
    groups = {**TREE["groups"], "things": {"labels": ["money", "post", "thanks"]}}
    extra = [(f"thank you {word}", ["thanks"]) for word in ("all", "both", "team", "very much", "a lot") * 5]
    written(folder, {**TREE, "groups": groups}, extra=extra)
    done = without_torch("fit", "shop.yaml", "--out", "model", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "as it was trained" in done.stderr
    assert "teach those of things, top level" in done.stderr
    assert "--retrain-trunk" in done.stderr
    after = json.loads((folder / "model" / "manifest.json").read_text())
    assert after["encoders"] == before["encoders"]
    (folder / "input.jsonl").write_text('{"text": "thank you team"}\n{"text": "refund cash"}\n')
    predicted = without_torch("predict", "input.jsonl", "--model", "model", folder=folder)
    assert [json.loads(line)["labels"] for line in predicted.stdout.splitlines()] == [["thanks"], ["money"]]
    anew = fitted(folder, "--retrain-trunk")
    assert anew.returncode == 0, anew.stderr
    assert "tiny: training on cpu" in anew.stderr
    assert json.loads((folder / "model" / "manifest.json").read_text())["encoders"] != before["encoders"]


def test_many_new_rows_train_the_trunk_anew(tmp_path):
    folder = written(tmp_path / "shop", count=120)
    assert fitted(folder).returncode == 0
    written(folder, count=240)
    done = fitted(folder)
    assert done.returncode == 0, done.stderr
    assert "tiny: training on cpu" in done.stderr


def test_no_row_that_taught_the_trunk_is_scored_after_it_was_built_on(tmp_path):
    folder = tmp_path / "model"
    texts, labels = rows(240)
    first = fit(Taxonomy.from_dict(TREE), texts, labels, folder)
    more, names = rows(20, seed=7)
    second = fit(Taxonomy.from_dict(TREE), [*more, *texts], [*names, *labels], folder)
    assert second.encoders == first.encoders
    from cascade.trunk.trunks import trunks_in

    [trunk] = trunks_in(folder)
    assert trunk.key == second.trunks[0]
    scored = {one["row"] for one in second.suspicious}
    assert scored <= {*range(1, len(texts) + len(more) + 1)}
    assert second.metrics["rows"] < 60


def test_a_killed_training_goes_on(tmp_path):
    tree = {**TREE, "defaults": {"backend": {**TREE["defaults"]["backend"], "epochs": 40}}}
    whole, folder = written(tmp_path / "whole", tree), written(tmp_path / "killed", tree)
    assert fitted(whole).returncode == 0
    # A checkpoint at every look, so that there is one soon.
    quick = (
        "import cascade.trunk.training as t; t.SECONDS_BETWEEN = 0.0; from cascade.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", quick, "fit", "shop.yaml", "--out", "model"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd=folder,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(
        (folder / "model").glob("trunks/.*-training/checkpoint.json")
    ):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "model" / "manifest.json").exists()
    done = fitted(folder)
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((one / "model" / "manifest.json").read_text()) for one in (folder, whole))
    assert ours["encoders"] == theirs["encoders"]
    assert sorted(one.name for one in (folder / "model" / "trunks").iterdir()) == ours["trunks"]


def test_a_dry_run_tells_rows_steps_and_minutes_and_writes_nothing(tmp_path):
    folder = written(tmp_path / "shop")
    done = fitted(folder, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "tiny: one fine-tune for 3 groups, 216 rows in 42 steps, about 1 minute here" in done.stderr
    told = json.loads(fitted(folder, "--dry-run", "--json").stdout)
    assert told["trunks"][0]["steps"] == 42
    assert told["trunks"][0]["seconds"] > 0
    assert not (folder / "model").exists()


def test_a_base_that_transformers_cannot_read_is_told(tmp_path):
    folder = bert_folder(tmp_path / "bert", {"model_type": "no-such-kind"})
    fetching.add(folder, "strange", to_train=True)
    tree = {**TREE, "defaults": {"backend": {"kind": "encoder", "base": "strange"}}}
    with pytest.raises(ModelError, match="transformers cannot read this base"):
        fit(Taxonomy.from_dict(tree), *rows(), tmp_path / "model")


def test_hosted_embedded_and_own_models_stand_in_one_tree(tmp_path):
    """An embedded router above heads, and heads above an embedded group."""
    groups = {
        "feelings": {"labels": ["angry", "sun"], "backend": "linear"},
        "things": TREE["groups"]["things"],
    }
    manifest = fit(Taxonomy.from_dict({**TREE, "groups": groups}), *rows(), tmp_path / "model")
    assert {name: one.backend["kind"] for name, one in manifest.groups.items()} == {
        "": "encoder",
        "feelings": "linear",
        "things": "encoder",
    }
    assert manifest.metrics["micro_f1"] > 0.85
    assert Cascade.load(tmp_path / "model").predict(["refund cash please"]) == [["money"]]
