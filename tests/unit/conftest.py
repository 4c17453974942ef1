"""Stores and sources on a folder and on a real S3 API, so that every promise is tested on both."""

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from clipdex.config import Settings


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def root(request, tmp_path) -> dict[str, object]:
    """Settings of one root: where clips or artifacts may lie."""
    if request.param == "folder":
        return {"url": str(tmp_path / "root")}
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = f"bucket-{tmp_path.name.lower().replace('_', '-')}"[:63].rstrip("-")
    access = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **access)
    client.create_bucket(Bucket=bucket)
    return {
        "url": f"s3://{bucket}/some/prefix",
        "key": "test",
        "secret": "test",
        "options": {"endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}},
    }


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings.load(home=tmp_path)
