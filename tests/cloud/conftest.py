"""AWS for the tests of the cloud: an emulator on this machine; see emulator.py."""

import functools
import logging
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import boto3
import botocore.session
import pytest
from emulator import WHERE, Emulator, Machine

from mnist_lab.cloud import commands, verbs
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.session import Session
from mnist_lab.cloud.settings import CloudSettings
from mnist_lab.runtime import Environment

TRUST = """{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
]}"""
# AWS's models are parsed once, not for every account that a test makes.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)


@pytest.fixture(scope="session")
def emulator():
    """AWS on a port of this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Emulator()
    yield server
    server.stop()


@pytest.fixture
def aws(emulator, monkeypatch):
    """An empty AWS that this process and its children talk to, with one role; a test may set what it returns."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MNIST_LAB_SAGEMAKER_"))]:
        monkeypatch.delenv(name)
    for name, value in emulator.variables.items():
        monkeypatch.setenv(name, value)
    world = emulator.reset()
    boto3.client("iam", region_name="us-east-1").create_role(RoleName="lab", AssumeRolePolicyDocument=TRUST)
    yield world
    world.__init__()


@pytest.fixture
def machine(aws, emulator, tmp_path):
    """The machine behind the instance "mnist-lab": it carries out its start script; nothing of it outlives a test."""
    made = Machine(tmp_path / "machine", emulator, told="3.10.9-2.10.0")
    aws.on_boot, aws.on_halt = made.boot, made.halt
    yield made
    made.halt()
    assert made.processes() == []


@pytest.fixture(scope="session")
def gpu_environment() -> Environment:
    """Where a run on an instance happens."""
    return Environment("Tesla T4", "cuda", "float32", 1, "3.10.9", "Linux x86_64", {"torch": "2.10.0"}, "abc")


@pytest.fixture
def connect(aws) -> Callable[..., Account]:
    """Connects to the account, with changes of the settings."""

    def make(dry_run: bool = False, **changes) -> Account:
        settings = {"region": "us-east-1", "role": "lab", "bucket": "lab-bucket", "poll_seconds": 0.05}
        return Account(CloudSettings(**(settings | changes)), dry_run)

    return make


@pytest.fixture(scope="session")
def options() -> Callable[..., Namespace]:
    """Parses a verb and its options."""
    parser = ArgumentParser()
    commands.add_commands(parser.add_subparsers())
    return lambda *arguments: parser.parse_args(["sagemaker", *arguments])


@pytest.fixture
def lab(tmp_path, options) -> Callable[..., int]:
    """Carries out a verb as the command line does, but leaves runs and records in a folder of the test."""

    def carry_out(verb: str, *arguments: str) -> int:
        parsed = options(verb, *WHERE, *arguments)
        session = Session(parsed, fetched=tmp_path / "fetched", tracked=tmp_path / "tracked")
        return getattr(verbs, parsed.function)(session)

    return carry_out
