"""headway push, and models of the Hub with revisions and tokens; the Hub is one on this computer."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_hub import FakeHub
from headway.core.checkpoints.hub import find_folder
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, load
from headway.tasks.base.card import dataset_of
from headway.tasks.publishing import prepare_publication
from huggingface_hub import ModelCard, constants, parse_eval_result_entries

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the Hub's client
FAST = TrainConfig(max_steps=4, batch_size=8, learning_rate=5e-3, precision="fp32", device="cpu", save_steps=1000)
ROWS = [{"text": f"{word} thing number {i}", "label": word} for i in range(30) for word in ("good", "bad")]
REPOSITORY = "someone/my-model"
PRIVATE_FILES = {"training_rows.hashes", "left_out.csv", "log.jsonl", "run.yaml", "notes.txt"}


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with all files that a run leaves, and one of the user's own."""
    folder = tmp_path_factory.mktemp("push") / "trained"
    rows = [*ROWS, {"text": "a secret row", "label": ""}]
    TextClassification().on(tiny).fit(rows, output=folder, config=FAST, eval_fraction=0.2)
    for name in PRIVATE_FILES - {path.name for path in folder.iterdir()}:
        (folder / name).write_text("secret")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    with FakeHub() as hub, hub.used_here(tmp_path / "home"):
        hub.users["hf_secret"] = "someone"
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


def pushed(hub: FakeHub, branch: str = "main") -> dict[str, bytes]:
    """The files of the repository."""
    repository = hub.repositories[f"models/{REPOSITORY}"]
    return repository.commits[repository.branches[branch]]


def changes(hub: FakeHub) -> list[str]:
    return [one for one in hub.requests if one.split()[0] in ("POST", "PUT")]


def test_the_model_is_uploaded_in_one_commit_and_opens_by_its_name(hub, headway, trained):
    ran = headway("push", trained, REPOSITORY, "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert report["commit"].startswith(f"{hub.url}/{REPOSITORY}/commit/")
    assert set(report["files"]) == pushed(hub).keys() - {".gitattributes"}
    assert {"config.json", "headway.json", "model.safetensors", "README.md", "tokenizer.json"} <= report[
        "files"
    ].keys()
    assert sum("/commit/" in one for one in hub.requests) == 1
    assert hub.repositories[f"models/{REPOSITORY}"].messages == ["Upload a model with Headway"]
    texts = ["good thing", "a bad thing"]
    found, expected = (load(one, device="cpu").predict(texts) for one in (REPOSITORY, trained))
    assert [one.scores for one in found] == [one.scores for one in expected]


def test_no_file_of_the_run_and_no_row_of_the_data_is_uploaded(hub, headway, trained):
    assert any(row["text"] in (trained / "headway.json").read_text() for row in ROWS)  # as examples
    ran = headway("push", trained, REPOSITORY)
    assert ran.code == 0, ran.err
    files = pushed(hub)
    assert PRIVATE_FILES.isdisjoint(files)
    for name in PRIVATE_FILES:
        assert name in ran.out
    for name, content in files.items():
        assert b"secret" not in content, name
        assert all(row["text"].encode() not in content for row in ROWS), name
    assert all(name.encode() not in files["README.md"] for name in PRIVATE_FILES)
    assert "held-out rows of the data; they are not uploaded" in " ".join(ran.out.split())
    assert (trained / "left_out.csv").exists()
    assert "examples" in json.loads((trained / "headway.json").read_text())


def test_the_card_names_the_repository_unless_a_person_edited_it(hub, headway, trained, tmp_path):
    assert headway("push", trained, REPOSITORY).code == 0
    card = pushed(hub)["README.md"].decode()
    assert f'load("{REPOSITORY}")' in card
    assert f"headway predict {REPOSITORY}" in card
    edited = shutil.copytree(trained, tmp_path / "trained")
    (edited / "README.md").write_text("# Mine\n")
    ran = headway("push", edited, REPOSITORY)
    assert pushed(hub)["README.md"] == b"# Mine\n"
    assert "uploaded unchanged" in ran.out


def test_the_list_of_files_comes_first_and_a_dry_run_sends_nothing(hub, headway, trained):
    ran = headway("push", trained, REPOSITORY, "--dry-run")
    assert ran.code == 0
    assert "model.safetensors" in ran.out
    assert "A new repository will be public (--private makes it private)." in ran.out
    assert "Nothing was uploaded." in ran.out
    assert hub.requests == []


def test_a_private_repository_needs_the_token(hub, headway, trained, monkeypatch):
    assert headway("push", trained, REPOSITORY, "--private").code == 0
    assert hub.repositories[f"models/{REPOSITORY}"].private
    assert load(REPOSITORY, device="cpu").predict("a good thing").label in ("good", "bad")
    monkeypatch.delenv("HF_TOKEN")
    hub.publish("other/hidden", trained, private=True)
    with pytest.raises(HeadwayError, match="a private model needs HF_TOKEN"):
        load("other/hidden")


def test_a_branch_is_created_and_chosen_by_its_name(hub, headway, trained, tmp_path):
    assert headway("push", trained, REPOSITORY).code == 0
    before = pushed(hub)
    ran = headway("push", trained, REPOSITORY, "--revision", "v2", "--message", "Second try")
    assert ran.code == 0, ran.err
    assert f"headway predict {REPOSITORY}@v2" in ran.out
    assert pushed(hub) is before
    repository = hub.repositories[f"models/{REPOSITORY}"]
    assert repository.messages[-1] == "Second try"
    assert find_folder(f"{REPOSITORY}@v2").name == repository.branches["v2"]
    ran = headway("predict", f"{REPOSITORY}@v2", "a good thing", "--device", "cpu")
    assert ran.code == 0, ran.err
    assert load(REPOSITORY, revision="v2", device="cpu").predict("good").label in ("good", "bad")


def test_a_commit_is_a_revision_and_an_unknown_one_is_refused(hub, headway, trained, monkeypatch):
    first = hub.publish(REPOSITORY, trained)
    hub.publish(REPOSITORY, {"config.json": b"{}"})
    assert find_folder(f"{REPOSITORY}@{first}").name == first
    ran = headway("predict", f"{REPOSITORY}@v9", "a text")
    assert ran.code == 2
    assert ran.err == (
        f"headway: {hub.url}/{REPOSITORY} has no branch, tag or commit 'v9'. Choose one of "
        f"{hub.url}/{REPOSITORY}/commits.\n"
    )
    with monkeypatch.context() as now:  # ends before that of the hub, which restores the value
        now.setattr(constants, "HF_HUB_OFFLINE", True)
        assert find_folder(f"{REPOSITORY}@{first}").name == first
        with pytest.raises(HeadwayError, match="HF_HUB_OFFLINE is set and it was not downloaded before"):
            find_folder(f"{REPOSITORY}@v9")


def test_a_folder_has_no_revision(trained):
    for name in (trained, "mini-bert", f"{REPOSITORY}@v1"):
        with pytest.raises(HeadwayError, match="revision='v2' is for a model on the Hub"):
            load(name, revision="v2")


def test_a_model_trained_on_a_revision_names_the_repository_as_its_base(hub, tiny, tmp_path):
    hub.publish("someone/base", tiny, branch="main")
    hub.publish("someone/base", tiny, branch="v2")
    TextClassification().on("someone/base@v2").fit(ROWS, output=tmp_path / "out", config=FAST)
    assert ModelCard.load(tmp_path / "out" / "README.md").data.base_model == "someone/base"
    assert json.loads((tmp_path / "out" / "headway.json").read_text())["base"] == "someone/base@v2"


# Refused before anything is sent


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "is not a model folder: it has no config.json"),
        ("data", "is not a model folder: it has no config.json"),
        ("run.running", "is an unfinished training run"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(hub, headway, tmp_path, name, message):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("text,label\n")
    (tmp_path / "run.running").mkdir()
    ran = headway("push", name, REPOSITORY)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert message in ran.err
    assert hub.requests == []


def test_weights_that_can_run_code_are_refused(hub, headway, trained, tmp_path):
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(trained, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    ran = headway("push", folder, REPOSITORY)
    assert ran.code == 2
    assert "pytorch_model.bin, a format that can run code" in ran.err
    assert hub.requests == []


def test_a_name_without_a_user_a_missing_token_and_offline_mode_are_refused(hub, headway, trained, monkeypatch):
    ran = headway("push", trained, "my-model")
    assert ran.err == (
        "headway: 'my-model' is not the name of a repository. Give USER/NAME, such as someone/my-model.\n"
    )
    monkeypatch.delenv("HF_TOKEN")
    ran = headway("push", trained, REPOSITORY)
    assert ran.code == 2
    assert f"An upload to {hub.url}/{REPOSITORY} needs a token, and this machine has none. Set HF_TOKEN" in ran.err
    with monkeypatch.context() as now:  # ends before that of the hub, which restores the value
        now.setattr(constants, "HF_HUB_OFFLINE", True)
        ran = headway("push", trained, REPOSITORY)
    assert "in offline mode" in ran.err
    assert hub.requests == []


# Refused by the Hub


def test_a_token_that_is_refused_is_one_message_without_the_token(hub, headway, trained, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for repository, token in ((REPOSITORY, "hf_wrong"), ("another/model", "hf_secret")):
        monkeypatch.setenv("HF_TOKEN", token)
        ran = headway("push", trained, repository)
        assert ran.code == 2
        assert ran.err.count("\n") == 1
        reason = "Invalid username or password" if token == "hf_wrong" else "You don't have the rights to create"
        assert f"The Hub refuses the upload to {hub.url}/{repository}: {reason}" in ran.err
        assert "Set HF_TOKEN to a token with the right to write" in ran.err
        assert token not in ran.err
    assert hub.repositories == {}


def test_invalid_metadata_of_an_edited_card_are_refused_before_the_upload(hub, headway, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "trained")
    (folder / "README.md").write_text("---\ntags: [\n---\n")
    ran = headway("push", folder, REPOSITORY)
    assert ran.code == 2
    assert "Invalid metadata in README.md" in ran.err
    assert ran.err.count("\n") == 1
    assert pushed(hub).keys() == {".gitattributes"}


def test_a_hub_that_fails_is_one_message(hub, headway, trained):
    hub.status = 503
    ran = headway("push", trained, REPOSITORY)
    assert ran.code == 2
    assert "failed: " in ran.err
    assert "503" in ran.err
    hub.stop()
    ran = headway("push", trained, REPOSITORY)
    assert ran.code == 2
    assert f"The upload to {hub.url}/{REPOSITORY} failed: " in ran.err
    hub.start()


# Results


def test_a_data_set_of_the_hub_is_named_by_its_id_configuration_and_split():
    assert dataset_of("hub:someone/reviews:en:test") == {
        "type": "someone/reviews", "name": "someone/reviews", "config": "en", "split": "test",
    }  # fmt: skip
    assert dataset_of("hub:imdb:train") == {"type": "imdb", "name": "imdb", "split": "train"}
    assert dataset_of("my Data.csv") == {"type": "my-data", "name": "my Data.csv"}


def test_a_score_on_a_benchmark_of_the_hub_is_in_the_form_of_its_results(trained, tmp_path):
    with pytest.raises(HeadwayError, match="evaluated on the given rows, which is not on the Hub"):
        prepare_publication(trained, REPOSITORY, "sentiment")
    folder = shutil.copytree(trained, tmp_path / "trained")
    info = json.loads((folder / "headway.json").read_text())
    info["data"]["eval"]["source"] = "hub:someone/reviews:test"
    (folder / "headway.json").write_text(json.dumps(info))
    content = prepare_publication(folder, REPOSITORY, "sentiment").files[".eval_results/headway.yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(content))
    assert (entry.dataset_id, entry.task_id) == ("someone/reviews", "sentiment")
    assert entry.value == pytest.approx(info["metrics"]["accuracy"], abs=1e-4)
    assert entry.notes.startswith("accuracy, split test, measured with Headway")
    assert ".eval_results/headway.yaml" not in prepare_publication(folder, REPOSITORY).files


def test_the_metadata_of_the_card_survive_the_reader_and_the_writer_of_the_hub(trained):
    card = ModelCard.load(trained / "README.md")
    written = yaml.safe_load((trained / "README.md").read_text().split("---")[1])
    assert card.data.to_dict() == written
    assert {one.metric_type for one in card.data.eval_results} == set(written["metrics"])
