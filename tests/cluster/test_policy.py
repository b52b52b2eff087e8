"""A server that enforces the policy of docs/operations.md: what each account can and cannot do."""

import json
import urllib.request
from contextlib import contextmanager

import boto3
import pytest

from flows.curate import curate_nodule
from storage.errors import WriteError
from storage.maintenance.verify import verify_nodules
from storage.recipe import load_recipe
from storage.records import Verdict
from storage.releases.release import publish_release
from storage.releases.verify import verify_release
from storage.reviews.verdicts import read_verdicts, record_verdict
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.cluster.test_keys import POLICY, may_write
from tests.phantoms import ball_patch, write_table
from tests.s3 import BUCKET, ENVIRONMENT, environment, moto_server

ACCOUNTS = ("worker", "reviewer", "publisher")
URL = f"s3://{BUCKET}/store"
FOLDERS = (
    "cases",
    "outcomes",
    "metrics",
    "decisions",
    "studies",
    "releases",
    "checkpoints",
    "runs",
)
EVERYTHING = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}


def statements(account):
    """Return what the policy lets an account do, as a policy of the account itself."""
    return [
        {name: value for name, value in statement.items() if name != "Principal"}
        for statement in POLICY["Statement"]
        if account in statement["Principal"]
    ]


@pytest.fixture(scope="module")
def keys():
    """A server with the accounts, which from now on refuses what no policy allows; their keys."""
    with moto_server() as port:
        address = f"http://127.0.0.1:{port}"
        iam = boto3.client(
            "iam",
            endpoint_url=address,
            region_name=ENVIRONMENT["AWS_REGION"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        made = {}
        for account in ("administrator", *ACCOUNTS):
            granted = statements(account) or [EVERYTHING]
            document = json.dumps({"Version": POLICY["Version"], "Statement": granted})
            iam.create_user(UserName=account)
            iam.put_user_policy(UserName=account, PolicyName="role", PolicyDocument=document)
            key = iam.create_access_key(UserName=account)["AccessKey"]
            made[account] = {
                **ENVIRONMENT,
                "AWS_ENDPOINT_URL": address,
                "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            }
        switch = urllib.request.Request(
            f"{address}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}, method="POST"
        )
        urllib.request.urlopen(switch).close()
        yield made


@contextmanager
def as_account(keys, account):
    """Open the store with the key of an account."""
    with environment(keys[account]):
        yield open_store(URL)


@pytest.fixture(scope="module")
def job(keys, tmp_path_factory):
    """A curation of one nodule into an empty store."""
    table = write_table(tmp_path_factory.mktemp("scans"), {"n1": ball_patch(seed=1)})
    with environment(keys["administrator"]):
        open_store(URL, create=True)
    recipe = load_recipe(None, crop={"in_plane_voxels": 24})
    return CurationJob(SourceSpec("files", str(table)), URL, recipe)


@pytest.mark.slow
def test_each_account_does_its_work(keys, job):
    (nodule,) = take_inventory(job, None).nodules
    with as_account(keys, "worker") as store:
        outcome = curate_nodule(nodule, job)
        assert outcome.state == "done", outcome.reason
        assert not any(verify_nodules(store, ["n1"]))
    with as_account(keys, "reviewer") as store:
        given = Verdict("n1", outcome.digest, "choose", "cf", "ann", False)
        record_verdict(store, given)
        assert [one.reviewer for one in read_verdicts(store, "n1")] == ["ann"]
    with as_account(keys, "publisher") as store:
        publish_release(store, "0.1.0", draft_release(store, "0.1.0", job.recipe), publisher="ann")
        assert verify_release(store, "0.1.0") == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_writes_its_own_folders_and_no_other(account, folder, keys, job):
    key = f"{folder}/{account}/file"
    with as_account(keys, account) as store:
        if folder in may_write(account):
            store.put(key, b"x")
            store.create(f"{key}.once", b"x")
            assert store.get(key) == b"x"
            return
        for write in (store.put, store.create):
            with pytest.raises(WriteError, match=rf"{key} cannot be written: .*403.* permission"):
                write(key, b"x")


@pytest.mark.slow
@pytest.mark.parametrize("account", ACCOUNTS)
def test_no_account_deletes(account, keys, job):
    key = f"{min(may_write(account))}/kept"
    with as_account(keys, account) as store:
        store.put(key, b"x")
        with pytest.raises(WriteError, match="permission"):
            store.delete([key])
        assert store.get(key) == b"x"
