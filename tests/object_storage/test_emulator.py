"""The emulator as google-cloud-storage and plain HTTP see it: what other tests rely on."""

import threading

import pytest
from google.api_core import exceptions
from google.cloud import storage
from google.cloud.storage.exceptions import InvalidResponse

from tests.object_storage.emulator import ObjectStorage


@pytest.fixture
def bucket(object_storage: ObjectStorage) -> storage.Bucket:
    return object_storage.client().bucket(object_storage.bucket)


def test_an_object_comes_back_as_it_was_written(bucket: storage.Bucket) -> None:
    blob = bucket.blob("folder/name with blanks & signs")
    blob.upload_from_string(b"some bytes")
    assert bucket.blob(blob.name).download_as_bytes() == b"some bytes"
    found = bucket.get_blob(blob.name)
    assert found is not None and found.size == 10
    assert found.crc32c and found.generation and found.updated
    assert found.metageneration == 1


def test_parts_of_an_object_can_be_read(bucket: storage.Bucket) -> None:
    bucket.blob("a").upload_from_string(b"0123456789")
    assert bucket.blob("a").download_as_bytes(start=3, end=5) == b"345"


def test_listing_follows_prefix_and_delimiter(bucket: storage.Bucket) -> None:
    for name in ("a/1", "a/2", "a/b/3", "c"):
        bucket.blob(name).upload_from_string(b"")
    found = bucket.list_blobs(prefix="a/", delimiter="/")
    assert [blob.name for blob in found] == ["a/1", "a/2"]
    assert found.prefixes == {"a/b/"}
    pages = bucket.list_blobs(max_results=3, page_size=2)
    assert [blob.name for blob in pages] == ["a/1", "a/2", "a/b/3"]


def test_what_is_not_there_is_not_found(bucket: storage.Bucket) -> None:
    assert bucket.get_blob("nothing") is None
    with pytest.raises(exceptions.NotFound):
        bucket.blob("nothing").download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("nothing").delete()


@pytest.mark.parametrize("chunk", [None, 256 * 1024], ids=["multipart", "resumable"])
def test_an_upload_can_ask_that_nothing_be_there(
    bucket: storage.Bucket, chunk: int | None
) -> None:
    content = bytes(600_000)  # three chunks
    blob = bucket.blob("large", chunk_size=chunk)
    blob.upload_from_string(content, if_generation_match=0)
    again = bucket.blob("large", chunk_size=chunk)
    with pytest.raises(exceptions.PreconditionFailed):
        again.upload_from_string(b"other" * 100_000, if_generation_match=0)
    assert bucket.blob("large").download_as_bytes() == content


def test_an_upload_can_ask_for_the_generation_it_read(bucket: storage.Bucket) -> None:
    bucket.blob("a").upload_from_string(b"1")
    first = bucket.get_blob("a")
    assert first is not None
    bucket.blob("a").upload_from_string(b"2", if_generation_match=first.generation)
    second = bucket.get_blob("a")
    assert second is not None and second.generation > first.generation
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").upload_from_string(b"3", if_generation_match=first.generation)
    assert bucket.blob("a").download_as_bytes() == b"2"


def test_a_resumable_upload_is_asked_again_when_it_ends(
    bucket: storage.Bucket,
) -> None:
    blob = bucket.blob("a", chunk_size=256 * 1024)
    writer = blob.open("wb", if_generation_match=0)
    writer.write(bytes(300_000))  # the first chunk is sent
    bucket.blob("a").upload_from_string(b"meanwhile")
    # Of a part, this client hands the answer itself on.
    with pytest.raises(InvalidResponse, match="412"):
        writer.close()
    assert bucket.blob("a").download_as_bytes() == b"meanwhile"


def test_copies_and_removals_have_conditions_too(bucket: storage.Bucket) -> None:
    source = bucket.blob("a")
    source.upload_from_string(b"1")
    bucket.copy_blob(source, bucket, "b", if_generation_match=0)
    assert bucket.blob("b").download_as_bytes() == b"1"
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.copy_blob(source, bucket, "b", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("c").rewrite(source, if_generation_match=77)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("b").delete(if_generation_match=1)
    assert bucket.get_blob("b") is not None
    bucket.blob("b").delete()
    assert bucket.get_blob("b") is None


def test_several_requests_can_be_one(
    object_storage: ObjectStorage, bucket: storage.Bucket
) -> None:
    for name in ("a/1", "a 2&3"):
        bucket.blob(name).upload_from_string(b"x")
    client = object_storage.client()
    with client.batch():
        mine = client.bucket(bucket.name)
        mine.blob("a/1").delete()
        mine.blob("a 2&3").delete(
            if_generation_match=bucket.get_blob("a 2&3").generation
        )
    assert object_storage.names() == []
    bucket.blob("a/1").upload_from_string(b"x")
    with pytest.raises(exceptions.PreconditionFailed), client.batch():
        mine.blob("a/1").delete(if_generation_match=77)
    assert object_storage.names() == ["a/1"]


def test_of_many_that_want_to_be_the_first_one_is(bucket: storage.Bucket) -> None:
    outcomes = []

    def write(number: int) -> None:
        try:
            bucket.blob("a").upload_from_string(str(number), if_generation_match=0)
            outcomes.append(number)
        except exceptions.PreconditionFailed:
            pass

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = outcomes
    assert bucket.blob("a").download_as_bytes() == str(winner).encode()


def test_faults_come_when_a_test_asks(
    object_storage: ObjectStorage, bucket: storage.Bucket
) -> None:
    object_storage.fail("POST", "/upload/", status=503)
    bucket.blob("a").upload_from_string(b"1", if_generation_match=0)  # tries again
    object_storage.fail("DELETE", "/o/a", status=503, applied=True)
    with pytest.raises(exceptions.ServiceUnavailable):
        bucket.blob("a").delete(retry=None)
    assert bucket.get_blob("a") is None
    posts = [p for m, p in object_storage.requests if m == "POST"]
    assert len(posts) == 2


def test_every_test_has_its_own_bucket(
    object_storage: ObjectStorage, bucket: storage.Bucket
) -> None:
    assert object_storage.names() == []
    bucket.blob("f/").upload_from_string(b"")  # a folder's marker
    assert object_storage.names() == ["f/"]
    assert object_storage.url("a/b") == f"gs://{bucket.name}/a/b"
