"""Looking into a forward pass: the maps are the probabilities that were used, and looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import ingot
import tiny
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.report import Maps, Report, Table
from ingot.infer.inspection.capture import CROSS, DECODER, ENCODER, SELF, Seen, look
from ingot.infer.inspection.page import heads
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.text.readable import readable
from ingot.text.tokenizer import Tokenizer

ALL = tiny.CONFIGS | tiny.ENCODERS | tiny.ENCODER_DECODERS
IDS = [5, 9, 200, 31, 7, 7, 100, 3, 250]
SOURCE = [11, 12, 13, 14, 40, 41]


def seen_of(config: dict[str, Any]) -> tuple[Any, Seen]:
    network = tiny.make_random_network(config)
    return network, look(network, IDS, SOURCE if isinstance(network, EncoderDecoder) else None)


@pytest.mark.parametrize("name", ALL)
def test_rows_sum_to_one_and_the_last_lens_is_the_model(name: str) -> None:
    network, seen = seen_of(ALL[name])
    for stack, layers in seen.attention.items():
        queries = SOURCE if stack == ENCODER else IDS
        keys = SOURCE if stack in {ENCODER, CROSS} else IDS
        for weights in layers:
            assert weights.shape[1:] == (len(queries), len(keys))
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
            if stack in {SELF, DECODER} and name not in tiny.ENCODERS:
                assert float(weights.triu(1).abs().max()) == 0.0
    kwargs = {"source_ids_BS": torch.tensor([SOURCE])} if isinstance(network, EncoderDecoder) else {}
    with torch.no_grad():
        logits = network.head(network(torch.tensor([IDS]), **kwargs))[0]
    torch.testing.assert_close(seen.lens[-1], logits)
    assert (
        len(seen.lens) == len(seen.stacks[-1].stream) == len(seen.attention.get(DECODER, seen.attention.get(SELF))) + 1
    )


@pytest.mark.parametrize("name", ["llama", "gemma2", "bert", "t5"])
def test_looking_leaves_no_trace(name: str) -> None:
    network, first = seen_of(ALL[name])
    assert all(not block._forward_hooks and not block._forward_pre_hooks for block in network.blocks)
    again = look(network, IDS, SOURCE if isinstance(network, EncoderDecoder) else None)
    assert all(torch.equal(a, b) for a, b in zip(first.lens, again.lens, strict=True))


def test_a_window_is_seen() -> None:
    _, seen = seen_of(tiny.MISTRAL)
    order = torch.arange(len(IDS))
    beyond = (order[:, None] - order[None, :]) >= 5
    assert all(float(weights[:, beyond].max()) == 0.0 for weights in seen.attention[SELF])


def test_heads_are_counted_by_hand() -> None:
    even, sharp = torch.full((1, 4, 4), 0.25), torch.eye(4)[None]
    found = heads(Seen({SELF: [even, sharp]}, [], []))
    assert [round(head.entropy, 6) for head in found] == [2.0, 0.0]
    assert [(head.first, head.own, head.before) for head in found] == [(0.25, 0.25, 0.25), (0.0, 1.0, 0.0)]


PEERS = ["llama", "mistral", "qwen3", "gpt2", "gemma2", "bloom", "bert", "modernbert", "t5", "bart"]


@pytest.mark.peers
@pytest.mark.parametrize("name", PEERS)
def test_maps_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    directory = tiny.write_model(tmp_path / "model", ALL[name])
    kind = AutoModelForMaskedLM if name in tiny.ENCODERS else AutoModelForCausalLM
    kind = AutoModelForSeq2SeqLM if name in tiny.ENCODER_DECODERS else kind
    peer = kind.from_pretrained(directory, attn_implementation="eager").eval()
    network = load(directory).network
    ids, source = torch.tensor([IDS]), torch.tensor([SOURCE])
    with torch.no_grad():
        if name in tiny.ENCODER_DECODERS:
            theirs = peer(input_ids=source, decoder_input_ids=ids, output_attentions=True)
            seen = look(network, IDS, SOURCE)
            pairs = [(ENCODER, theirs.encoder_attentions), (DECODER, theirs.decoder_attentions),
                     (CROSS, theirs.cross_attentions)]  # fmt: skip
        else:
            theirs = peer(input_ids=ids, output_attentions=True)
            seen = look(network, IDS)
            pairs = [(SELF, theirs.attentions)]
    for stack, wanted in pairs:
        assert len(wanted) == len(seen.attention[stack])
        for ours, their in zip(seen.attention[stack], wanted, strict=True):
            torch.testing.assert_close(ours, their[0], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tokenizer(tmp_path_factory.mktemp("inspect") / "tokenizer")


def test_tokens_are_readable(tokenizer: Path) -> None:
    opened = Tokenizer.open(tokenizer)
    shown = [readable(opened, id) for id in opened.encode(" the 天空\n貓")]
    assert shown[0] == "␣the"
    assert "天空" in shown
    assert "⏎" in shown
    assert shown[-1].startswith("⟨")
    assert readable(opened, opened.id("<|im_end|>") or 0) == "<|im_end|>"
    assert readable(opened, 10**6) == "#1000000"


@pytest.mark.parametrize("name", ["gemma2", "bert", "t5", "mixtral"])
def test_the_page_shows_what_was_seen(name: str, tmp_path: Path, tokenizer: Path) -> None:
    model = tiny.write_model(tmp_path / "model", ALL[name], tokenizer=tokenizer)
    ingot.inspect(str(model), prompt="the cat 天空", out=tmp_path / "page")
    report = Report.open(tmp_path / "page")
    maps = [section for section in report.sections if isinstance(section, Maps)]
    assert len(maps) == (3 if name == "t5" else 1)
    for section in maps:
        for one in section.maps:
            assert all(sum(value or 0 for value in row) == pytest.approx(1, abs=1e-3) for row in one.values)
    html = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert 'class="maps"' in html
    assert "天空" in html
    lens = [section for section in report.sections if isinstance(section, Table)][1]
    assert len(lens.rows) == len(maps[-1].maps) // 4 + 1


def test_chosen_layers_are_drawn(tmp_path: Path, tokenizer: Path) -> None:
    model = tiny.write_model(tmp_path / "model", tokenizer=tokenizer)
    report = ingot.inspect(str(model), prompt="the cat", out=tmp_path / "page", layers="-1")
    (maps,) = [section for section in report.sections if isinstance(section, Maps)]
    assert {one.group for one in maps.maps} == {"layer 1"}


def test_a_target_is_read_by_the_decoder(tmp_path: Path, tokenizer: Path) -> None:
    model = tiny.write_model(tmp_path / "model", tiny.T5, tokenizer=tokenizer)
    report = ingot.inspect(str(model), prompt="the cat", out=tmp_path / "page", target="dog")
    assert report.numbers["tokens"] == 1 + len(Tokenizer.open(model).encode("dog"))


@pytest.mark.slow
def test_special_tokens_are_text_unless_asked_for(tmp_path: Path, tokenizer: Path) -> None:
    model = tiny.write_model(tmp_path / "model", tokenizer=tokenizer)
    plain = ingot.inspect(str(model), prompt="a<|im_end|>", out=tmp_path / "plain").numbers["tokens"]
    assert ingot.inspect(str(model), prompt="a<|im_end|>", out=tmp_path / "one", special=True).numbers["tokens"] == 2
    assert isinstance(plain, int)
    assert plain > 2


@pytest.mark.parametrize(
    ("options", "code"),
    [({"prompt": ""}, "inspect-empty"), ({"prompt": "a", "target": "b"}, "inspect-target"),
     ({"prompt": "1 2 3 4 5 " * 40}, "inspect-too-long"), ({"prompt": "a", "layers": "2"}, "inspect-layers"),
     ({"prompt": "a", "layers": "x"}, "inspect-layers")],
)  # fmt: skip
def test_what_cannot_be_seen_is_refused(options: dict[str, Any], code: str, tmp_path: Path, tokenizer: Path) -> None:
    model = tiny.write_model(tmp_path / "model", tokenizer=tokenizer)
    with pytest.raises(IngotError) as caught:
        ingot.inspect(str(model), out=tmp_path / "page", **options)
    assert caught.value.code == code
    assert not (tmp_path / "page").exists()
