from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cascade.errors import DataError, ModelError
from cascade.fitted import CHUNK, Cascade
from cascade.learn.fit import fit
from cascade.learn.truth import true_cells
from cascade.model.folder import MANIFEST, NODES, digest_of_file
from cascade.model.walk import edges
from cascade.taxonomy.definition import Taxonomy

LINEAR = {"backend": {"kind": "linear", "C": 1}, "negatives": "siblings"}
PROBES = [
    "charged twice, smashed glass",
    "furious complaint about vat percentage",
    "",
    "lovely thanks",
    "vat vat vat vat vat",
    "nothing known here: zzz qqq",
    "naïve Ünïcode \N{PILE OF POO} 漢字 \0 \x1f",
    "arrived slowly " * 500,
]


@pytest.fixture(scope="module")
def cascade(shop):
    return Cascade.fit(shop.taxonomy, shop.texts, shop.labels)


def same_answers(one, other):
    assert one.digest == other.digest
    assert one.labels == other.labels
    assert one.predict(PROBES) == other.predict(PROBES)
    assert np.array_equal(one.predict_proba(PROBES), other.predict_proba(PROBES), equal_nan=True)
    first, second = one.walk(PROBES), other.walk(PROBES)
    assert np.array_equal(first.paths, second.paths, equal_nan=True)
    assert np.array_equal(first.conditionals, second.conditionals, equal_nan=True)
    return True


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# What it answers


def test_keywords_are_learned(cascade):
    answers = cascade.predict(
        ["money returned please", "smashed glass and charged twice", "hello my order today"]
    )
    assert [set(names) for names in answers] == [{"refund"}, {"broken", "double_charge"}, set()]


def test_most_training_rows_get_their_own_labels(cascade, shop):
    right = [
        set(names) == set(given)
        for names, given in zip(cascade.predict(shop.texts), shop.labels, strict=True)
    ]
    assert np.mean(right) > 0.95


def test_names_come_most_probable_first(cascade):
    for names, row in zip(cascade.predict(PROBES), cascade.predict_proba(PROBES), strict=True):
        chances = [row[cascade.labels.index(name)] for name in names]
        assert chances == sorted(chances, reverse=True)


def test_probabilities_have_a_column_for_each_label_and_nan_where_nobody_looked(cascade):
    chances = cascade.predict_proba(PROBES)
    assert chances.shape == (len(PROBES), len(cascade.labels))
    assert chances.dtype == np.float32
    known = chances[~np.isnan(chances)]
    assert ((known >= 0) & (known <= 1)).all()
    assert np.isnan(chances[3, cascade.labels.index("vat_missing")])
    unknown = np.array([text == "" or "漢字" in text for text in PROBES])
    assert np.isnan(chances[unknown]).all()
    assert not np.isnan(chances[~unknown, cascade.labels.index("happy")]).any()


def test_what_is_chosen_is_what_reaches_its_threshold(cascade):
    walked = cascade.walk(PROBES)
    chosen = cascade.decide(walked)
    for row, names in enumerate(cascade.predict(PROBES)):
        assert set(names) == {cascade.graph.nodes[column] for column in np.flatnonzero(chosen[row])}
        for name in names:
            assert walked.paths[row, cascade.graph.column[name]] >= np.float32(
                cascade.manifest.thresholds[name]
            )


def test_no_texts_give_no_answers(cascade):
    assert cascade.predict([]) == []
    assert cascade.predict_proba([]).shape == (0, len(cascade.labels))
    walked = cascade.walk([])
    assert walked.paths.shape == (0, len(cascade.graph.nodes))
    assert walked.conditionals.shape == (0, len(edges(cascade.graph)))
    assert cascade.decide(walked).shape == walked.paths.shape


def test_a_batch_is_answered_bit_for_bit_as_its_texts_are_one_by_one(cascade, shop):
    texts = [*PROBES, *shop.texts]
    together = cascade.predict_proba(texts)
    apart = np.concatenate([cascade.predict_proba([text]) for text in texts])
    assert np.array_equal(together, apart, equal_nan=True)
    assert cascade.predict(texts) == [cascade.predict([text])[0] for text in texts]


def test_the_order_and_the_company_of_texts_do_not_matter(cascade, shop):
    order = random.Random(0).sample(range(len(shop.texts)), len(shop.texts))
    shuffled = cascade.predict_proba([shop.texts[row] for row in order])
    assert np.array_equal(shuffled, cascade.predict_proba(shop.texts)[order], equal_nan=True)


def test_more_texts_than_one_chunk_holds_are_answered_alike(cascade):
    few = ["charged twice", "", "lovely thanks"]
    times = CHUNK // len(few) + 1
    assert cascade.predict(few * times) == cascade.predict(few) * times
    chances = cascade.predict_proba(few * times)
    assert np.array_equal(chances, np.tile(cascade.predict_proba(few), (times, 1)), equal_nan=True)


def test_texts_may_come_in_any_sequence(cascade):
    expected = cascade.predict(PROBES)
    for texts in (tuple(PROBES), np.array(PROBES, dtype=object), dict.fromkeys(PROBES), iter(PROBES)):
        assert cascade.predict(texts) == expected
    import pandas as pd

    series = pd.Series(PROBES, index=[7] * len(PROBES))
    assert cascade.predict(series) == expected
    assert len(cascade.predict_proba(series)) == len(cascade.walk(series).paths) == len(PROBES)


def test_a_frame_is_fitted_and_answered_as_its_rows_in_a_file_would_be(shop):
    import pandas as pd

    frame = pd.DataFrame({"text": shop.texts, "labels": shop.labels})
    model = Cascade.fit(shop.taxonomy, frame)
    assert model.digest == Cascade.fit(shop.taxonomy, shop.texts, shop.labels).digest
    asked = pd.DataFrame({"text": PROBES}, index=range(100, 100 + len(PROBES)))
    answers = model.predict_frame(asked)
    assert answers["labels"].tolist() == model.predict(PROBES)
    assert [list(scores) for scores in answers["scores"]] == model.predict(PROBES)
    assert answers.index.equals(asked.index)
    assert model.predict_frame(PROBES).to_dict("list") == answers.to_dict("list")
    assert asked.join(answers).columns.tolist() == ["text", "labels", "scores"]


def test_a_frame_of_flags_with_gaps_is_read_too(shop):
    import pandas as pd

    flags = {name: [1.0 if name in names else None for names in shop.labels] for name in shop.taxonomy.labels}
    model = Cascade.fit(shop.taxonomy, pd.DataFrame({"text": shop.texts} | flags))
    assert model.predict(["charged twice"]) == [["double_charge"]]


def test_rows_of_a_frame_that_cannot_be_used_are_told_by_number(shop, cascade):
    import pandas as pd

    frame = pd.DataFrame({"text": ["late", None], "labels": [["late"], ["laate"]]})
    with pytest.raises(DataError, match="<frame> row 2: column 'text' holds null"):
        cascade.predict_frame(frame)
    frame["text"] = "late"
    with pytest.raises(DataError, match=r"<frame> row 2: unknown label 'laate'\. Did you mean 'late'"):
        Cascade.fit(shop.taxonomy, frame)
    with pytest.raises(DataError, match="<frame>: no column 'text' for the text; there is 'labels'"):
        cascade.predict_frame(frame[["labels"]])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fine", None], "row 2: expected a text, found NoneType"),
        (["fine", "fine", float("nan")], "row 3: expected a text, found float"),
        ([b"bytes"], "row 1: expected a text, found bytes"),
        ([["a"]], "row 1: expected a text, found list"),
        (["ok", "half \ud800"], "row 2: half of a surrogate pair"),
        ("one text", r"expected a sequence of texts, found one str\. Put it into a list"),
        (b"one text", "found one bytes"),
    ],
)
def test_what_is_no_text_is_a_data_error_that_names_the_row(cascade, shop, texts, message):
    for ask in (cascade.predict, cascade.predict_proba, cascade.walk):
        with pytest.raises(DataError, match=message):
            ask(texts)
    with pytest.raises(DataError, match=message):
        cascade.oracle(texts, true_cells(cascade.graph, [cascade.labels] * len(texts)))
    with pytest.raises(DataError, match=message):
        Cascade.fit(shop.taxonomy, texts, [["late"]] * len(texts))


# What it learns from


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["late"], ["refnud"]], r"row 2: unknown label 'refnud'\. Did you mean 'refund'\?"),
        ([["Late"], []], r"row 1: unknown label 'Late'\. Did you mean 'late'\?"),
        ([["late"], [""]], "row 2: unknown label ''"),
        ([["late"], ["zzz"]], r"row 2: unknown label 'zzz'\.$"),
        ([["late"], "refund"], r"row 2: expected a list of labels, found 'refund'\."),
        ([["late"], None], "row 2: expected a list of labels, found None"),
        ([["late"], [5]], "row 2: expected the name of a label, found 5"),
        ([["late"], [["refund"]]], "row 2: expected the name of a label, found"),
        ([["late"]], r"2 texts and 1 lists of labels: expected as many of both"),
        ([["late"]] * 3, "2 texts and 3 lists of labels"),
        ([[], []], "2 rows, none with a label: nothing to learn"),
    ],
)
def test_labels_that_cannot_be_learned_are_a_data_error(shop, labels, message):
    with pytest.raises(DataError, match=message):
        Cascade.fit(shop.taxonomy, ["one", "two"], labels)


def test_aliases_and_repeated_names_mean_their_label(shop):
    aliased = [
        ["charged twice" if name == "double_charge" else name for name in names] for names in shop.labels
    ]
    doubled = [names * 2 for names in aliased]
    assert same_answers(
        Cascade.fit(shop.taxonomy, shop.texts, doubled), Cascade.fit(shop.taxonomy, shop.texts, shop.labels)
    )


def test_fitting_needs_no_list_and_changes_nothing_that_it_is_given(shop):
    texts, labels = tuple(shop.texts), tuple(tuple(names) for names in shop.labels)
    before = copy.deepcopy((texts, labels))
    model = Cascade.fit(shop.taxonomy, np.array(texts, dtype=object), labels)
    assert (texts, labels) == before
    assert model.taxonomy == shop.taxonomy


# There and back


def test_a_saved_model_comes_back_bit_for_bit(cascade, tmp_path):
    cascade.save(tmp_path / "deep" / "er" / "model")
    assert same_answers(Cascade.load(tmp_path / "deep" / "er" / "model"), cascade)
    assert same_answers(Cascade.load(str(tmp_path / "deep" / "er" / "model")), cascade)


def test_a_model_fitted_in_memory_has_the_bytes_of_one_fitted_on_disk(cascade, shop_model, tmp_path):
    cascade.save(tmp_path / "model")
    assert files(tmp_path / "model") == [name for name in files(shop_model) if name != ".lock"]
    for name in files(tmp_path / "model"):
        assert (tmp_path / "model" / name).read_bytes() == (shop_model / name).read_bytes()
    assert cascade.digest == digest_of_file(shop_model / MANIFEST)


def test_saving_leaves_nothing_else_behind_and_others_may_read_it(cascade, tmp_path):
    cascade.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    usual = tmp_path / "usual"
    usual.mkdir()
    (usual / "file").touch()
    for path in (tmp_path / "model", *(tmp_path / "model").rglob("*")):
        like = usual if path.is_dir() else usual / "file"
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(like.stat().st_mode)


def test_saving_goes_into_an_empty_folder_but_over_nothing(cascade, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    cascade.save(tmp_path / "empty")
    assert same_answers(Cascade.load(tmp_path / "empty"), cascade)
    with pytest.raises(ModelError, match=r"empty: expected a new or empty folder\. Name another one"):
        cascade.save(tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelError, match="file: expected a new or empty folder"):
        cascade.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cascade.save("sub")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    cascade.save(tmp_path / "link")
    for name in ("here/sub", "there", "link"):
        assert same_answers(Cascade.load(tmp_path / name), cascade)


def test_a_model_that_was_damaged_since_it_was_loaded_is_not_saved(shop_model, tmp_path):
    folder = Path(shutil.copytree(shop_model, tmp_path / "model"))
    model = Cascade.load(folder)
    (damaged, *_) = sorted((folder / NODES).glob("*/*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x55")
    with pytest.raises(ModelError, match="changed since it was written"):
        model.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_what_lies_about_in_the_folder_is_not_saved(cascade, shop_model, tmp_path):
    model = Path(shutil.copytree(shop_model, tmp_path / "model"))
    (model / NODES / ".0123456789abcdef-left").mkdir()
    (model / NODES / ("f" * 64)).mkdir()
    (model / "notes.txt").write_text("mine")
    cascade.save(tmp_path / "expected")
    Cascade.load(model).save(tmp_path / "saved")
    assert files(tmp_path / "saved") == files(tmp_path / "expected")


def test_a_model_that_was_replaced_on_disk_is_not_saved_as_the_loaded_one(shop, shop_model, tmp_path):
    folder = Path(shutil.copytree(shop_model, tmp_path / "model"))
    model = Cascade.load(folder)
    before = model.predict(PROBES)
    fit(shop.taxonomy, shop.texts, shop.labels, folder, seed=1)
    assert model.predict(PROBES) == before
    for keep in (lambda: model.save(tmp_path / "saved"), lambda: pickle.dumps(model)):
        with pytest.raises(ModelError, match=r"model: another model was written here .* Load it again"):
            keep()
    assert not (tmp_path / "saved").exists()
    shutil.rmtree(folder)
    assert model.predict(PROBES) == before
    with pytest.raises(ModelError, match="no model here"):
        model.save(tmp_path / "saved")


def test_a_pickled_model_comes_back_bit_for_bit(cascade, shop_model):
    for model in (cascade, Cascade.load(shop_model)):
        for back in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert same_answers(back, model)
            assert back.folder != model.folder
            assert same_answers(pickle.loads(pickle.dumps(back)), model)


def test_a_pickled_model_answers_in_another_process(cascade, tmp_path):
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(cascade))
    code = (
        "import pickle, sys; model = pickle.load(open(sys.argv[1], 'rb'));"
        "print(model.digest, model.predict(['charged twice']))"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", code, tmp_path / "model.pickle"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == f"{cascade.digest} [['double_charge']]\n"
    assert answer.stderr == ""


def test_a_models_own_folder_goes_with_it_and_not_before(shop):
    model = Cascade.fit(shop.taxonomy, shop.texts, shop.labels)
    second = copy.deepcopy(model)
    folders = [model.folder, second.folder]
    del model
    gc.collect()
    assert [folder.exists() for folder in folders] == [False, True]
    assert second.predict(["charged twice"]) == [["double_charge"]]
    del second
    gc.collect()
    assert not any(folder.exists() for folder in folders)


def test_a_fit_that_fails_leaves_no_folder_behind(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DataError, match="nothing to learn"):
        Cascade.fit(shop.taxonomy, ["text"], [[]])
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    model = Cascade.fit(shop.taxonomy, shop.texts, shop.labels)
    assert [model.folder] == list(tmp_path.iterdir())


@pytest.mark.skipif(
    not hasattr(os, "fork") or sys.version_info >= (3, 12), reason="newer Pythons warn of fork"
)
def test_a_forked_process_does_not_take_the_models_folder_away(shop):
    model = Cascade.fit(shop.taxonomy, shop.texts, shop.labels)
    child = multiprocessing.get_context("fork").Process(target=model.__dict__.clear)
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    assert model.folder.exists()


@contextmanager
def as_nobody():
    """Without the rights of root, who may write anywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs rights as Unix has them")
def test_a_read_only_folder_loads_answers_and_can_be_saved_from(cascade, shop_model):
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o777)
        folder = Path(shutil.copytree(shop_model, Path(top) / "model"))
        everything = [folder, *folder.rglob("*")]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = {path: path.stat().st_mtime_ns for path in everything}
        with as_nobody():
            with pytest.raises(PermissionError):
                (folder / "file").touch()
            model = Cascade.load(folder)
            assert same_answers(model, cascade)
            model.save(Path(top) / "saved")
            assert same_answers(Cascade.load(Path(top) / "saved"), cascade)
            assert all(
                os.access(path, os.W_OK, effective_ids=True) for path in (Path(top) / "saved").rglob("*")
            )
            assert pickle.loads(pickle.dumps(model)).digest == cascade.digest
        assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
        for path in everything:
            path.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs rights as Unix has them")
def test_a_file_that_may_not_be_read_is_named(shop_model):
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        folder = Path(shutil.copytree(shop_model, Path(top) / "model"))
        for path in (folder / MANIFEST, next(folder.rglob("weights.npy"))):
            path.chmod(0)
            with as_nobody(), pytest.raises(ModelError, match=f"{path.name}.*Permission denied"):
                Cascade.load(folder)
            path.chmod(0o644)


# The ways of a taxonomy, end to end


def taught(groups, texts_of, n_texts=240, **top):
    """A model of one-word keywords, where each row carries the labels of its words."""
    taxonomy = Taxonomy.from_dict({"name": "t", "defaults": LINEAR, "groups": groups, **top})
    draw = random.Random(1)
    texts, labels = [], []
    for _ in range(n_texts):
        words = draw.sample(sorted(texts_of), draw.choice([1, 1, 2]))
        texts.append(" ".join([*words, *draw.choices(["this", "was", "my", "own", "thing", "today"], k=3)]))
        labels.append(sorted({name for word in words for name in texts_of[word]}))
    return Cascade.fit(taxonomy, texts, labels)


def test_one_child_at_most_is_answered_where_one_is_to_be_chosen():
    groups = {
        "mood": {"choose": "one", "labels": ["happy", "angry"]},
        "thing": {"labels": ["box", "van"]},
    }
    words = {"joy": ["happy"], "rage": ["angry"], "carton": ["box"], "lorry": ["van"], "plain": []}
    model = taught(groups, words)
    answers = model.predict(
        ["joy today", "rage today", "joy and rage", "carton and lorry", "carton joy rage"]
    )
    assert answers[:2] == [["happy"], ["angry"]]
    assert set(answers[3]) == {"box", "van"}
    assert all(len({"happy", "angry"} & set(names)) <= 1 for names in answers)


def test_a_facet_is_asked_about_every_text_whatever_else_it_is():
    groups = {
        "mood": {"route": "always", "choose": "one", "labels": ["happy", "angry"]},
        "thing": {"labels": ["box", "van"]},
    }
    words = {"joy": ["happy"], "rage": ["angry"], "carton": ["box"], "lorry": ["van"], "plain": []}
    model = taught(groups, words)
    walked = model.walk(["joy carton", "nothing about joy"])
    assert (walked.paths[:, model.graph.column["mood"]] == 1).all()
    assert not np.isnan(walked.paths[:, model.graph.column["happy"]]).any()
    nothing = model.walk(["", "...", "漢字"])
    assert np.isnan(nothing.paths).all()
    assert np.isnan(nothing.conditionals).all()
    assert nothing.nothing_known.all()
    assert set(model.predict(["joy with the carton"])[0]) == {"happy", "box"}
    assert model.predict(["rage about nothing"]) == [["angry"]]
    assert model.manifest.groups["mood"].route_threshold == 0


def test_a_taxonomy_of_facets_only_has_no_router():
    groups = {
        "mood": {"route": "always", "labels": ["happy", "angry"]},
        "thing": {"route": "always", "labels": ["box", "van"]},
    }
    model = taught(
        groups, {"joy": ["happy"], "rage": ["angry"], "carton": ["box"], "lorry": ["van"], "plain": []}
    )
    assert set(model.manifest.groups) == {"mood", "thing"}
    assert set(model.predict(["joy carton"])[0]) == {"happy", "box"}
    assert same_answers(pickle.loads(pickle.dumps(model)), model)


def test_a_routed_group_of_facets_only_needs_no_model_of_its_own():
    groups = {
        "reviews": {"groups": {"mood": {"route": "always", "labels": ["happy", "angry"]}}},
        "thing": {"labels": ["box", "van"]},
    }
    model = taught(
        groups, {"joy": ["happy"], "rage": ["angry"], "carton": ["box"], "lorry": ["van"], "plain": []}
    )
    assert set(model.manifest.groups) == {"", "mood", "thing"}
    assert model.predict(["joy today", "rage today", "carton"]) == [["happy"], ["angry"], ["box"]]


@pytest.mark.parametrize("combine", ["max", "noisy_or"])
def test_a_label_with_several_parents_is_found_by_either_way(combine):
    groups = {
        "packing": {"labels": ["torn", "broken"]},
        "goods": {"labels": ["broken", "faulty"]},
        "money": {"labels": ["refund"]},
    }
    words = {
        "ripped": ["torn"],
        "smashed": ["broken"],
        "defect": ["faulty"],
        "repay": ["refund"],
        "plain": [],
    }
    model = taught(groups, words, combine=combine)
    assert model.labels == ("torn", "broken", "faulty", "refund")
    answers = model.predict(["smashed today", "ripped", "defect", "smashed and repay", "plain thing"])
    assert [set(names) for names in answers] == [
        {"broken"},
        {"torn"},
        {"faulty"},
        {"broken", "refund"},
        set(),
    ]
    walked = model.walk(["smashed today"])
    paths = {name: walked.paths[0, model.graph.column[name]] for name in model.graph.nodes}
    assert paths["broken"] <= max(paths["packing"], paths["goods"])


def test_a_group_with_two_parents_is_walked_over_both():
    groups = {
        "billing": {"labels": ["refund"]},
        "business": {"labels": ["quote"]},
        "tax": {"also_in": ["billing", "business"], "labels": ["vat", "duty"]},
    }
    words = {"repay": ["refund"], "offer": ["quote"], "percent": ["vat"], "customs": ["duty"], "plain": []}
    model = taught(groups, words)
    assert set(model.graph.parents["tax"]) == {"", "billing", "business"}
    assert model.predict(["percent today", "customs", "repay", "offer"]) == [
        ["vat"],
        ["duty"],
        ["refund"],
        ["quote"],
    ]


def test_a_group_backs_off_to_itself_where_no_label_is_sure():
    groups = {
        "billing": {"back_off": True, "threshold": 0.5, "labels": ["refund", "charge", "tip"]},
        "delivery": {"labels": ["late", "early"]},
    }
    taxonomy = Taxonomy.from_dict({"name": "t", "defaults": LINEAR, "groups": groups})
    kinds = {
        "invoice": ["billing"],
        "invoice repay": ["refund"],
        "invoice debit": ["charge"],
        "invoice extra": ["tip"],
        "slow": ["late"],
        "quick": ["early"],
        "plain": [],
        "nought": [],
        "empty": [],
    }
    draw = random.Random(3)
    words = [draw.choice(list(kinds)) for _ in range(400)]
    texts = [" ".join([word, *draw.choices(["this", "was", "my", "thing"], k=3)]) for word in words]
    model = Cascade.fit(taxonomy, texts, [kinds[word] for word in words])
    assert {model.manifest.thresholds[name] for name in ("billing", "refund", "charge", "tip")} == {0.5}
    answers = model.predict(["invoice repay my", "invoice debit my", "invoice my", "slow my", "plain my"])
    assert answers == [["refund"], ["charge"], ["billing"], ["late"], []]
    walked = model.walk(["invoice my"])
    assert walked.paths[0, model.graph.column["billing"]] >= 0.5
    assert model.decide(walked)[0].sum() == 1


def test_the_oracle_enters_just_the_groups_that_are_true(cascade, shop):
    graph = cascade.graph
    cells = true_cells(graph, shop.labels)
    walked, truth = cascade.oracle(shop.texts, cells), cells.dense()
    for group in graph.groups[1:]:
        if shop.taxonomy.groups[group].route == "always":
            assert (walked.paths[:, graph.column[group]] == 1).all()
            continue
        inside = truth[:, graph.column[group]]
        entered = np.nan_to_num(walked.paths[:, graph.column[group]])
        assert np.array_equal(entered, inside.astype(np.float32))
        for child in graph.children[group]:
            if child in graph.labels and len(graph.parents[child]) == 1:
                assert np.array_equal(~np.isnan(walked.paths[:, graph.column[child]]), inside)
    columns = [graph.column[label] for label in graph.labels]
    assert (cascade.decide(walked)[:, columns] == truth[:, columns]).mean() > 0.99


def test_the_oracle_is_the_walk_where_nobody_can_err(cascade):
    walked = cascade.oracle(PROBES, true_cells(cascade.graph, [[]] * len(PROBES)))
    always = {cascade.graph.column[name] for name in ("mood", "happy", "angry")}
    rest = [column for column in range(len(cascade.graph.nodes)) if column not in always]
    assert (np.nan_to_num(walked.paths[:, rest]) == 0).all()
    plain = cascade.walk(PROBES)
    assert np.array_equal(walked.paths[:, sorted(always)], plain.paths[:, sorted(always)], equal_nan=True)


def test_one_label_and_one_group_are_a_model_too():
    taxonomy = Taxonomy.from_dict({"name": "t", "labels": ["only"]})
    model = Cascade.fit(taxonomy, ["red", "blue"] * 30, [["only"], []] * 30)
    assert model.labels == ("only",)
    assert model.predict_proba(["red"]).shape == (1, 1)
    taxonomy = Taxonomy.from_dict({"name": "t", "groups": {"g": {"labels": ["only"]}}})
    model = Cascade.fit(taxonomy, ["red thing", "blue thing"] * 30, [["only"], ["only"]] * 30)
    assert model.predict(["red", "anything"]) == [["only"], ["only"]]


def test_a_model_is_at_hand_without_what_only_training_needs():
    code = (
        "import sys, cascade.predict.answers, cascade.fitted;"
        "heavy = {'joblib', 'networkx', 'pandas', 'pyarrow', 'sklearn', 'cascade.learn.fit'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
