"""Writes and checks small checkpoints with reference outputs. README.md says how to run it and what the files hold."""

import argparse
import hashlib
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

TESTDATA = pathlib.Path(__file__).resolve().parents[2] / "model" / "testdata"
IDS = 40  # length of the prompt
PREFILL = 24  # ids that the greedy continuation starts from
GREEDY = 24  # ids it adds

COMMON = dict(
    vocab_size=320,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    tie_word_embeddings=False,
)


def theta(value, **scaling):
    return {"rope_type": "default", "rope_theta": value, **scaling}


# Each case: the class of its configuration, the fields that differ from COMMON, and the form of its config.json: "newer"
# (rope_parameters, dtype), "older" (rope_theta, rope_scaling, torch_dtype, no layer_types), or "oldest", which says "type" for "rope_type"
# and has no head_dim.
CASES = {
    "linear-rope": (LlamaConfig, dict(rope_parameters=theta(10000.0, rope_type="linear", factor=4.0)), "oldest"),
    "yarn-rope": (
        LlamaConfig,
        dict(
            head_dim=24,
            tie_word_embeddings=True,
            rope_parameters=theta(10000.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
        ),
        "newer",
    ),
    "yarn-options": (
        Qwen2Config,
        dict(
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            rope_parameters=theta(
                20000.0,
                rope_type="yarn",
                factor=4.0,
                original_max_position_embeddings=512,
                beta_fast=16.0,
                beta_slow=2.0,
                mscale=1.5,
                mscale_all_dim=0.75,
                truncate=False,
            ),
        ),
        "older",
    ),
    "llama-biases": (
        LlamaConfig,
        dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True, rope_parameters=theta(500000.0)),
        "newer",
    ),
    "qwen2-windows": (
        Qwen2Config,
        dict(
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=8,
            max_window_layers=1,
            rope_parameters=theta(10000.0),
        ),
        "older",
    ),
    "qwen3-windows": (
        Qwen3Config,
        dict(
            head_dim=32,
            attention_bias=True,
            use_sliding_window=True,
            sliding_window=12,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters=theta(10000.0),
        ),
        "newer",
    ),
    "mistral-one-key-head": (
        MistralConfig,
        dict(
            hidden_size=40,
            intermediate_size=88,
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=24,
            sliding_window=None,
            rope_parameters=theta(10000.0),
        ),
        "older",
    ),
}


def source(name):
    """A source of random numbers that depends on the case alone."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")))


def randomize(model, rng):
    """Fills all weights so that every one of them shows in the logits; initialization leaves biases at 0 and norms at 1."""
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            values = rng.standard_normal(tuple(p.shape))
            if name.endswith("bias"):
                values *= 0.3
            elif p.dim() == 1:
                values = 1 + 0.2 * values
            else:
                values *= 0.2
            p.copy_(torch.from_numpy(values))


def age(config, form):
    """Turns the fields of a newer config.json into those that older versions of transformers wrote."""
    if form == "newer":
        return config
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    config.pop("layer_types", None)
    if form == "oldest":
        if config["rope_scaling"]:
            rope["type"] = rope.pop("rope_type")
        config.pop("head_dim", None)
    return config


def compute(folder, ids):
    """The reference outputs for the checkpoint in folder, read back as any user of it would."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        out = model(ids[None], output_hidden_states=True)
        golden = {f"hidden.{i}": h[0] for i, h in enumerate(out.hidden_states)}
        golden |= {"ids": ids.to(torch.int32), "logits": out.logits[0]}
        step, cache, rows = ids[None, :PREFILL], None, []
        for _ in range(GREEDY):
            out = model(step, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            rows.append(out.logits[0, -1])
            step = rows[-1].argmax()[None, None]
    rows = torch.stack(rows)
    best = rows.topk(2).values
    golden |= {"greedy": rows.argmax(-1).to(torch.int32), "greedy_logits": rows, "greedy_margin": best[:, 0] - best[:, 1]}
    return {name: t.contiguous().clone() for name, t in golden.items()}


def write(name):
    cls, fields, form = CASES[name]
    config = cls(**(COMMON | fields), dtype="float32")
    rng = source(name)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    randomize(model, rng)
    ids = torch.from_numpy(rng.integers(3, config.vocab_size, IDS))
    folder = TESTDATA / name
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        model.save_pretrained(tmp)
        written = age(json.loads((tmp / "config.json").read_text()), form)
        (tmp / "config.json").write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
        metadata = {"reference": f"transformers {transformers.__version__}", "dtype": "float32", "prefill": str(PREFILL)}
        save_file(compute(tmp, ids), tmp / "golden.safetensors", metadata)
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "model.safetensors", "golden.safetensors"):
            shutil.copyfile(tmp / file, folder / file)
    print(name, sum(f.stat().st_size for f in folder.iterdir()), "bytes")


def check(folder):
    """Computes the golden of a folder again and returns whether it is what the folder holds."""
    want = load_file(folder / "golden.safetensors")
    have = compute(folder, want["ids"].long())
    worst = 0.0
    for key in want:
        if want[key].shape != have[key].shape:
            print(folder.name, key, "has shape", list(want[key].shape), "want", list(have[key].shape))
            return False
        worst = max(worst, (want[key].double() - have[key].double()).abs().max().item())
    print(folder.name, "largest difference", worst)
    return worst < 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("names", nargs="*", help="cases to write, or folders of model/testdata to check; all by default")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    if args.check:
        names = args.names or sorted(f.parent.name for f in TESTDATA.glob("*/golden.safetensors"))
        sys.exit(0 if all([check(TESTDATA / name) for name in names]) else 1)
    for name in args.names or CASES:
        if name not in CASES:
            sys.exit(f"no case {name}, want one of {', '.join(CASES)}")
        write(name)


if __name__ == "__main__":
    main()
