"""Images are archives that say the same for the same input."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.lab.images import File, Image, archive, layer


def read(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = [(m.name, tar.extractfile(m)) for m in tar.getmembers() if m.isreg()]
        return {name: file.read() for name, file in members if file}


@given(st.dictionaries(st.text("abc", min_size=1), st.binary(max_size=40), min_size=1))
def test_a_layer_holds_its_files_and_order_does_not_matter(files):
    made = layer({f"d/{name}": File(content) for name, content in files.items()})
    turned = layer({f"d/{name}": File(files[name]) for name in reversed(files)})
    assert made == turned
    assert read(made) == {f"d/{name}": content for name, content in files.items()}


def test_a_layer_makes_parents_before_files():
    with tarfile.open(fileobj=io.BytesIO(layer({"a/b/c": File(b"x")}))) as tar:
        assert tar.getnames() == ["a", "a/b", "a/b/c"]


def test_an_archive_names_layers_and_config_by_their_digest():
    base, top = layer({"a": File(b"1")}), layer({"b": File(b"2")})
    images = [Image("x:1", (base, top), ("a",), ("V=1",)), Image("x:2", (base, top), ("a",))]
    files = read(archive(images, "amd64"))
    manifest = json.loads(files["manifest.json"])
    assert [image["RepoTags"] for image in manifest] == [["x:1"], ["x:2"]]
    assert len(files) == 1 + 2 + 2  # two layers, stored once
    for image in manifest:
        config = json.loads(files[image["Config"]])
        assert image["Config"] == hashlib.sha256(files[image["Config"]]).hexdigest() + ".json"
        for name, digest in zip(image["Layers"], config["rootfs"]["diff_ids"], strict=True):
            assert digest == "sha256:" + hashlib.sha256(files[name]).hexdigest()
