"""A trained network becomes a folder that other programs and machines can use."""

import pytest

from flows.publish_network import Publication, publish_network
from storage.records import FileList, read_record
from storage.store import open_folder
from tasks.learning.train import learn
from tests.flows.training import copy_of, training_job


@pytest.fixture(scope="module")
def trained(learnable, tmp_path_factory):
    """A store with a trained network, and the job that it was trained by."""
    store = copy_of(learnable, tmp_path_factory.mktemp("trained"))
    job = training_job(store.url)
    learn(job)
    return job


@pytest.fixture(scope="module")
def network(trained):
    """The published folder, with everything in it; its ONNX file takes most of a minute."""
    lines = []
    digest = learn(trained).digest
    place = publish_network(
        trained.release, digest, Publication("small-1", "CC-BY-4.0"), device="cpu", say=lines.append
    )
    assert lines == []
    return open_folder(place)


def test_a_published_folder_holds_what_it_lists(network):
    listed = read_record(network, "files.json", FileList).files
    assert {*network.list_prefix("")} == {*listed, "files.json"}
    print(network.get("README.md").decode())
