"""Prompts about one image share their beginning: the same answers as from whole prompts, in fewer passes."""

import functools
import random

import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from rerank.backends.prefix import PrefixedNetwork, shared_length, without_ends
from rerank.backends.transformers_local import TransformersLocal
from rerank.base import Candidate
from rerank.choice import rotated
from rerank.mllm import SYMBOLS, ChoiceRequest
from rerank.prompt import choice_text
from tests.reference import whole_prompt
from tests.rerank.tiny_mllm.pictures import MODEL, NAMES

IMAGE_LAST = (
    "{% for part in messages[0]['content'] | reverse %}"
    "{% if part['type'] == 'image' %}<|image_pad|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}!"
)


def make_restless(network, seed):
    """Draw large weights, so that attention and positions tell on the answers; untrained ones hardly do."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim >= 2 and "vision" not in name and "visual" not in name:
                parameter.normal_(0, 2 * parameter.shape[-1] ** -0.5 if "embed" not in name else 1)
    return network.eval()


@pytest.fixture(scope="module")
def processor():
    made = AutoProcessor.from_pretrained(MODEL)
    made.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": 196 * 196}
    return made


@pytest.fixture(scope="module")
def random_model(processor, tmp_path_factory):
    """A Qwen2-VL with random weights and the processor of the tiny model, but for images of very different sizes."""
    token = processor.tokenizer.convert_tokens_to_ids
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": -(-len(processor.tokenizer) // 64) * 64,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            "tie_word_embeddings": True,
        },
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("random model")
    make_restless(Qwen2VLForConditionalGeneration(config), seed=1).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def noise(width, height, seed):
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))


def asked(image, names, descriptions, starts):
    """The requests of one question, one for each rotation."""
    candidates = [Candidate(name, tuple(descriptions[:number])) for number, name in enumerate(names)]
    return [
        ChoiceRequest(image, choice_text([candidates[i] for i in rotated(len(names), start)]), SYMBOLS[: len(names)])
        for start in starts
    ]


def many_requests():
    """Images of different shapes with 1 to 5 rotations, prompts of different lengths, in mixed order."""
    words = ("small", "striped fur", "a very long tail, seen from behind")
    requests = [
        *asked(noise(60, 60, 0), NAMES[:5], words, range(5)),
        *asked(noise(190, 70, 1), NAMES[2:6], (), range(4)),
        *asked(noise(60, 196, 2), NAMES[4:9], words, (0, 3)),
        *asked(noise(196, 180, 3), NAMES[1:4], words, (0,)),
    ]
    random.Random(0).shuffle(requests)
    return requests


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_shared_beginnings_change_no_log_probability(random_model, processor, batch_size):
    mllm = TransformersLocal(str(random_model), device="cpu", dtype="float32", batch_size=batch_size)
    network = Qwen2VLForConditionalGeneration.from_pretrained(random_model, dtype=torch.float32)
    requests = many_requests()
    with torch.inference_mode():
        expected = [whole_prompt(network, processor, request) for request in requests]
    assert max(max(row) - min(row) for row in expected) > 1  # so that a wrong position shows
    for choice, row, request in zip(mllm.choose(requests), expected, requests, strict=True):
        assert choice.log_probs == pytest.approx(row, abs=1e-4)
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request.text}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=[[request.image]])
        assert choice.usage.prompt_tokens == len(inputs["input_ids"][0])


@pytest.fixture
def passes(monkeypatch):
    """The (rows, tokens) of each forward pass, and whether it saw pixels."""
    made, forward = [], Qwen2VLForConditionalGeneration.forward

    @functools.wraps(forward)  # whose arguments are looked up
    def counted(self, **inputs):
        made.append((*inputs["input_ids"].shape, "pixel_values" in inputs))
        return forward(self, **inputs)

    monkeypatch.setattr(Qwen2VLForConditionalGeneration, "forward", counted)
    return made


def test_an_image_is_seen_once_and_of_the_prompts_only_the_rests_are_computed_again(random_model, passes):
    mllm = TransformersLocal(str(random_model), device="cpu", dtype="float32", batch_size=8)
    assert len(mllm.choose(asked(noise(196, 196, 0), NAMES[:5], (), range(5)))) == 5
    ((images, begun, seen), (rows, rest, seen_again)) = passes
    assert (images, rows) == (1, 5)
    assert (seen, seen_again) == (True, False)
    assert begun > 49 + 20  # the image and the question
    assert rest < 40


def test_a_prompt_alone_is_one_pass(random_model, passes):
    mllm = TransformersLocal(str(random_model), device="cpu", dtype="float32", batch_size=8)
    mllm.choose([*asked(noise(90, 90, 0), NAMES[:5], (), (0,)), *asked(noise(90, 90, 1), NAMES[:3], (), (0,))])
    assert [(rows, seen) for rows, _, seen in passes] == [(2, True)]


def test_the_next_call_about_the_same_images_goes_on_from_their_beginnings(random_model, processor, passes):
    mllm = TransformersLocal(str(random_model), device="cpu", dtype="float32", batch_size=8)
    images = [noise(60, 196, 0), noise(90, 60, 1), noise(90, 90, 2)]
    questions = [asked(image, NAMES[:5], (), range(5)) for image in images]
    mllm.choose([request for question in questions for request in question[:3]])
    passes.clear()
    later = [*questions[2][3:], *questions[0][3:]]
    answers = mllm.choose(later)
    assert [(rows, seen) for rows, _, seen in passes] == [(4, False)]
    network = Qwen2VLForConditionalGeneration.from_pretrained(random_model, dtype=torch.float32)
    with torch.inference_mode():
        for choice, request in zip(answers, later, strict=True):
            assert choice.log_probs == pytest.approx(whole_prompt(network, processor, request), abs=1e-4)
    passes.clear()
    mllm.choose(asked(images[0].copy(), NAMES[:5], (), range(2)))  # another object may be another image
    assert [seen for *_, seen in passes] == [True, False]
    passes.clear()
    mllm.choose([ChoiceRequest(images[0], "Which letter?", SYMBOLS[:5])])
    assert [seen for *_, seen in passes] == [True]


def test_a_template_with_the_image_last_gives_the_same_answers_without_sharing(random_model, processor, monkeypatch):
    mllm = TransformersLocal(str(random_model), device="cpu", dtype="float32", batch_size=4)
    network = Qwen2VLForConditionalGeneration.from_pretrained(random_model, dtype=torch.float32)
    template = {"chat_template": IMAGE_LAST}
    render = type(processor).apply_chat_template
    monkeypatch.setattr(
        type(processor), "apply_chat_template", lambda self, chat, **options: render(self, chat, **options, **template)
    )
    requests = many_requests()[:6]
    with torch.inference_mode():
        expected = [whole_prompt(network, processor, request) for request in requests]
    for choice, row in zip(mllm.choose(requests), expected, strict=True):
        assert choice.log_probs == pytest.approx(row, abs=1e-4)


def test_a_model_that_counts_positions_by_columns_gives_the_same_logits():
    config = LlavaConfig(
        text_config=LlamaConfig(
            vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
        ),
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
        ),
        image_token_index=49,
    )
    network = make_restless(LlavaForConditionalGeneration(config), seed=2)
    pixels = torch.randn(2, 3, 8, 8)
    images = [noise(8, 8, 0), noise(8, 8, 1)]
    beginnings = [[3, 49, 49, 49, 49, 5], [7, 8, 9, 49, 49, 49, 49, 10, 11]]
    rests, rows = [[12, 13, 14], [15], [], [16, 17]], [1, 0, 0, 1]
    prefixed = PrefixedNetwork(network)
    padded = torch.tensor([[0] * 3 + beginnings[0], beginnings[1]])
    mask = torch.tensor([[0] * 3 + [1] * 6, [1] * 9])
    with torch.inference_mode():
        begun = prefixed.begin(
            {"input_ids": padded, "attention_mask": mask, "pixel_values": pixels}, images, beginnings
        )
        for at_most in (3, 2):  # the cache of the beginnings does not change
            found = prefixed.go_on(begun, rows, rests, at_most)
            for logits, row, rest in zip(found, rows, rests, strict=True):
                whole = network(input_ids=torch.tensor([beginnings[row] + rest]), pixel_values=pixels[row : row + 1])
                assert logits.tolist() == pytest.approx(whole.logits[0, -1].tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [([[1, 2, 3], [1, 2, 4, 5]], 2), ([[1, 2], [1, 2, 3]], 2), ([[1], [2]], 0), ([[1, 2, 3]], 3)],
)
def test_shared_length(prompts, expected):
    assert shared_length(prompts) == expected


def test_ends_are_cut_and_padding_stays_on_the_left():
    inputs = {
        "input_ids": torch.tensor([[0, 0, 1, 2, 3], [4, 5, 6, 7, 8]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
        "mm_token_type_ids": torch.tensor([[0, 0, 1, 0, 0], [0, 1, 0, 0, 0]]),
        "pixel_values": torch.ones(2, 5),
    }
    found = without_ends(inputs, [0, 3], pad=9)
    assert found["input_ids"].tolist() == [[1, 2, 3], [9, 4, 5]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert found["mm_token_type_ids"].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found["pixel_values"] is inputs["pixel_values"]
