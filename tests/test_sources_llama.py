"""Sources: llama.cpp's KL base files, written here as llama-perplexity writes them."""

import json
import os
import struct

import numpy as np
import pytest
from files import check, damage, growth

import fastxent as fx
from fastxent.cli import main
from fastxent.sources import FormatError, open_logits


def write(path, context, vocabulary, chunks, seed=0):
    """A base file with random codes; gives the log-probabilities and labels that it stands for."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocabulary, (chunks, context), dtype=np.int32)
    each = context - 1 - context // 2
    scale = rng.uniform(1e-4, 3e-4, (chunks * each, 1)).astype("<f4")
    least = rng.uniform(-17, -15, (chunks * each, 1)).astype("<f4")
    codes = rng.integers(0, 65536, (chunks * each, vocabulary), dtype=np.uint16)
    with open(path, "wb") as file:
        file.write(b"_logits_" + struct.pack("<Iii", context, vocabulary, chunks) + tokens.tobytes())
        for row in range(len(codes)):
            head = scale[row].tobytes() + least[row].tobytes()
            file.write(head + codes[row].tobytes() + b"\xff" * (vocabulary % 2 * 2))
    # sums of two roundings in float32, as NumPy does them
    return scale * codes.astype(np.float32) + least, tokens[:, context // 2 + 1 :].reshape(-1)


@pytest.mark.parametrize(("context", "vocabulary", "chunks"), [(8, 6, 3), (9, 7, 2), (3, 1, 1), (512, 33, 2)])
def test_rows_and_labels(context, vocabulary, chunks, tmp_path):
    x, y = write(tmp_path / "base.bin", context, vocabulary, chunks)
    source = open_logits(tmp_path / "base.bin")  # llama.cpp asks for no suffix: the first bytes tell it
    check(source, x)
    assert (source.format, source.inputs, source.dtype) == ("llama.cpp", "log_probs", np.float32)
    check(open_logits(tmp_path / "base.bin", labels=True), y)
    if vocabulary > 5:
        assert fx.evaluate(source, source).to_dict()["cross_entropy"] == fx.evaluate(x, y).cross_entropy


def test_what_it_holds_is_known(tmp_path, capsys):
    """Log-probabilities, unless the call says otherwise; probabilities contradict the format."""
    path = tmp_path / "base.kld"
    x, y = write(path, 64, 9, 2)
    held = "log_probs"
    evaluated, compared = fx.evaluate(path, path), fx.compare(x, path, y)
    assert evaluated.provenance["options"]["inputs"] == held
    assert evaluated.cross_entropy == fx.evaluate(x, y, inputs=held).cross_entropy
    said = compared.provenance["options"]
    assert (said["inputs"], said["base_inputs"]) == (held, "logits")
    assert compared.kl_mean == fx.compare(x, x, y, inputs=held, base_inputs="logits").kl_mean
    said = fx.compare(path, x).provenance["options"]
    assert (said["inputs"], said["base_inputs"]) == ("logits", held)
    for options in ({"inputs": "logits"}, {"inputs": held}):
        result = fx.evaluate(path, path, **options)
        assert result.provenance["options"]["inputs"] == options["inputs"]
        assert result.cross_entropy == evaluated.cross_entropy
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(9), len(x))
    said = fx.compare(path, q, inputs="probs").provenance["options"]
    assert (said["inputs"], said["base_inputs"]) == ("probs", held)
    for call in (
        lambda: fx.evaluate(path, path, inputs="probs"),
        lambda: fx.fit_temperature(path, path, inputs="probs"),
        lambda: fx.compare(x, path, inputs="probs"),
        lambda: fx.compare(path, x, base_inputs="probs"),
    ):
        with pytest.raises(ValueError, match=r"inputs is 'probs', but .*base\.kld holds log-probabilities"):
            call()
    y = np.where(rng.random(len(x)) < 0.9, x.argmax(1), y)
    fit = fx.fit_temperature(path, y)
    assert fit.before.provenance["options"]["inputs"] == held
    assert fit.temperature == fx.fit_temperature(x, y).temperature
    for args in (["eval", path, path], ["compare", path, path]):
        assert main([*map(str, args), "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)["provenance"]["options"]["inputs"] == held
        assert main([*map(str, args), "--inputs", "probs"]) == 1
        assert "holds log-probabilities" in capsys.readouterr().err
    assert main(["eval", str(path), "--json", "-"]) == 0  # the labels that it holds
    assert json.loads(capsys.readouterr().out)["cross_entropy"] == evaluated.cross_entropy


def test_broken(tmp_path):
    path = tmp_path / "base.kld"
    write(path, 8, 6, 3)
    whole = path.read_bytes()
    for raw, match in [
        (whole[:-1], "truncated: n_ctx 8, n_vocab 6, n_chunk 3 want 296 bytes, the file ends at byte 295"),
        (whole + b"1", "too long: .* want 296 bytes, the file ends at byte 297"),
        (whole[:19], "truncated: a header of 20 bytes, the file ends at byte 19"),
        (whole[:8] + struct.pack("<Iii", 2, 6, 3) + whole[20:], "n_ctx 2"),
        (whole[:8] + struct.pack("<Iii", 8, -6, 3) + whole[20:], "n_vocab -6"),
        (whole[:8] + struct.pack("<Iii", 8, 6, 0) + whole[20:], "n_chunk 0"),
        (whole[:8] + struct.pack("<Iii", 2**32 - 1, 2**31 - 1, 2**31 - 1) + whole[20:], "truncated"),
        (b"_Logits_" + whole[8:], "does not begin with _logits_"),
        (b"", "does not begin with _logits_"),
    ]:
        path.write_bytes(raw)
        for labels in (False, True):
            with pytest.raises(FormatError, match=rf"base\.kld: .*{match}"):
                open_logits(path, labels=labels)
    path.write_bytes(whole)
    with pytest.raises(FormatError, match="no members"):
        open_logits(path, name="x")
    source = open_logits(path)
    os.truncate(path, 290)
    with pytest.raises(FormatError, match="truncated while it was read, at byte 290"):
        source.read(0, 9)


def test_damage(tmp_path):
    write(tmp_path / "base.kld", 8, 6, 3)
    damage(tmp_path / "base.kld", 500, 24)


def test_memory_is_flat(tmp_path):
    """Of 1 GB of zeros that take no room on the disk."""
    path, context, vocabulary, chunks = tmp_path / "base.kld", 512, 32000, 64
    head = b"_logits_" + struct.pack("<Iii", context, vocabulary, chunks)
    path.write_bytes(head)
    os.truncate(path, 20 + 4 * context * chunks + chunks * 255 * (vocabulary + 4) * 2)
    assert growth(path) < 80
