"""Makes `tests/golden_scorers/prm_<layout>/`: tiny random step scorers and the scores of PyTorch.

Run it in an environment of its own (the package and its tests never need PyTorch):

    pip install torch transformers safetensors
    python scripts/make_prm_goldens.py

Each directory is a Hugging Face model with its tokenizer, plus `golden.json`: questions, steps and
the score of each step as the model's authors compute it. `prm_head` is Qwen2.5-Math-PRM's layout (a
network of two classes over the hidden state at `<extra_0>`), `prm_tokens` Math-Shepherd's
(probabilities of two tokens at a mark).
"""

from __future__ import annotations

import json
import pathlib

import safetensors.torch
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[1] / "tests" / "golden_scorers"
MARK = "\u043a\u0438"  # Math-Shepherd's
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SOLUTIONS = [
    ("What is 2 + 3 ?", ["2 + 3 = 5", "So the answer is 5."]),
    ("Ann has 4 pens and buys 9. How many?", ["She has 4.", "4 + 9 = 12", "It is 12."]),
    ("x?", ["42"]),
]
SIZES = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=24,
    max_position_embeddings=512,
    hidden_act="silu",
    tie_word_embeddings=False,
)


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token a byte, and the marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({piece: n for n, piece in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<extra_0>"])
    backend.add_tokens([AddedToken(MARK, normalized=False)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", chat_template=TEMPLATE
    )


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Every parameter matters: scales away from 1, biases away from 0, sharp attention."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 0.3 if name.endswith("bias") else 1.5 / parameter.shape[-1] ** 0.5
        parameter.data = 1 + 0.3 * noise if "norm" in name else scale * noise


def write(name: str, config: dict, state: dict, words, scores: list[list[float]]) -> None:
    """One directory."""
    directory = ROOT / name
    directory.mkdir(parents=True, exist_ok=True)
    words.save_pretrained(directory)
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {key: value.contiguous() for key, value in state.items()}
    safetensors.torch.save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    rows = [
        {"question": question, "steps": steps, "scores": found}
        for (question, steps), found in zip(SOLUTIONS, scores, strict=True)
    ]
    (directory / "golden.json").write_text(json.dumps(rows, indent=1) + "\n")


def head() -> None:
    """Qwen2.5-Math-PRM: `score` over the last hidden states, class 1 at each mark."""
    words = tokenizer()
    config = transformers.Qwen2Config(vocab_size=264, **SIZES)
    config._attn_implementation = "eager"
    size = SIZES["hidden_size"]
    model = torch.nn.Module()
    model.model = transformers.Qwen2Model(config).float().eval()
    layers = [torch.nn.Linear(size, size), torch.nn.ReLU(), torch.nn.Linear(size, 2)]
    model.score = torch.nn.Sequential(*layers)
    randomise(model, 0)
    mark = words.encode("<extra_0>")[0]
    scores = []
    for question, steps in SOLUTIONS:
        said = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": question},
            {"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"},
        ]
        text = words.apply_chat_template(said, tokenize=False, add_generation_prompt=False)
        ids = torch.tensor([words.encode(text)])
        with torch.no_grad():
            logits = model.score(model.model(ids).last_hidden_state)
        scores.append(logits.softmax(-1)[ids == mark][:, 1].tolist())
    saved = config.to_dict() | {"architectures": ["Qwen2ForProcessRewardModel"]}
    write("prm_head", saved, model.state_dict(), words, scores)


def tokens() -> None:
    """Math-Shepherd: `+` against `-` as the next token at each mark."""
    words = tokenizer()
    config = transformers.MistralConfig(vocab_size=264, sliding_window=None, **SIZES)
    config._attn_implementation = "eager"
    model = transformers.MistralForCausalLM(config).float().eval()
    randomise(model, 1)
    mark, verdicts = words.encode(MARK)[0], [words.encode(text)[0] for text in "+-"]
    scores = []
    for question, steps in SOLUTIONS:
        text = question + " " + "\n".join(f"{step} {MARK}" for step in steps)
        ids = torch.tensor([words.encode(text)])
        with torch.no_grad():
            logits = model(ids).logits[:, :, verdicts]
        scores.append(logits.softmax(-1)[..., 0][ids == mark].tolist())
    write("prm_tokens", config.to_dict(), model.state_dict(), words, scores)
    critic(model, words)


ASK = (
    "Question: {question}\n\nSolution so far:\n{solution}\n\n"
    "Check the solution step by step. Is its last step correct?"
)


def critic(model: torch.nn.Module, words) -> None:
    """ThinkPRM's manner without a critique: `t` against `g`, the last bytes of two verdicts."""
    verdicts = [words.encode(text)[-1] for text in (" correct", " wrong")]
    rows = []
    for question, steps in SOLUTIONS:
        scores = []
        for k in range(1, len(steps) + 1):
            solution = "\n".join(f"{n}. {step}" for n, step in enumerate(steps[:k], 1))
            said = [{"role": "user", "content": ASK.format(question=question, solution=solution)}]
            text = words.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
            ids = torch.tensor([words.encode(text + "\nThe last step is")])
            with torch.no_grad():
                scores.append(model(ids).logits[0, -1, verdicts].softmax(-1)[0].item())
        rows.append({"question": question, "steps": steps, "scores": scores})
    (ROOT / "prm_tokens" / "critic.golden.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    head()
    tokens()
