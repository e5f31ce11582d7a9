"""Writes small quantized matrices, and small quantized checkpoints, with the tools whose layouts they have.

A case chooses codes, scales and zero points first, so that the values are known before any tool sees them, and has the
tool lay them out; where the tool must choose the codes itself, the truth is what the tool's own dequantization returns.
See README.md.
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "model" / "quantized" / "testdata"
CASES = {}


def case(function):
    CASES[function.__name__.replace("_", "-")] = function
    return function


def save(name, tensors, truth, config, dtype="float32"):
    tensors = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
    text = json.dumps({"dtype": dtype, "quantization_config": config})
    save_file(tensors | {"truth": truth.detach().float().contiguous()}, TESTDATA / f"{name}.safetensors", {"config": text})


def seeded(name):
    return torch.Generator().manual_seed(sum(map(ord, name)) * 7919)


def integers(rng, out, cols, bits, group, symmetric, index=None, dtype=torch.float16):
    """Codes q, scales s, zero points z and the values s·(q - z) of a matrix whose column i is of group index[i]."""
    groups = -(-cols // group)
    index = torch.arange(cols) // group if index is None else index
    q = torch.randint(0, 2**bits, (out, cols), generator=rng)
    s = (torch.rand(out, groups, generator=rng) * 0.09 + 0.01).to(dtype)
    if symmetric:
        z = torch.full((out, groups), 2 ** (bits - 1))
    else:
        z = torch.randint(0, 2**bits, (out, groups), generator=rng)
    return q, s, z, s.float()[:, index] * (q - z[:, index]).float()


def linear(weight):
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return layer


# GPTQ, by GPTQModel


def gptq_tensors(weight, s, z, bits, group, sym, v1, index=None):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    out, cols = weight.shape
    layer = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=index is not None, in_features=cols, out_features=out)
    index = torch.arange(cols) // group if index is None else index
    layer.pack_original(linear(weight), s.float(), z.float(), index.to(torch.int32))
    if v1:
        convert_gptq_v2_to_v1_format_module(layer, QuantizeConfig(bits=bits, group_size=group))
    return {k: getattr(layer, k) for k in ("qweight", "qzeros", "scales", "g_idx")}


def gptq(name, bits, group, sym=True, v1=True, order=False, out=16, cols=64, keep_index=True, **extra):
    rng = seeded(name)
    width = cols if group == -1 else group
    index = None
    if order:
        index = (torch.arange(cols) // width)[torch.randperm(cols, generator=rng)]
    _, s, z, weight = integers(rng, out, cols, bits, width, sym, index)
    t = gptq_tensors(weight, s, z, bits, width, sym, v1, index)
    if not keep_index:
        del t["g_idx"]
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": order, "sym": sym, **extra}
    save(name, {"m." + k: v for k, v in t.items()}, weight, config)


@case
def gptq_4bit(name):
    gptq(name, 4, 32, keep_index=False)


@case
def gptq_4bit_zeros_v1(name):
    gptq(name, 4, 32, sym=False, checkpoint_format="gptq")  # zero points of 0 among them, which borrow


@case
def gptq_4bit_zeros_v2(name):
    gptq(name, 4, 32, sym=False, v1=False, checkpoint_format="gptq_v2")


@case
def gptq_4bit_act_order(name):
    gptq(name, 4, 32, sym=False, v1=False, order=True, format="gptq_v2", cols=96)


@case
def gptq_4bit_row(name):
    gptq(name, 4, -1)


@case
def gptq_4bit_short_group(name):
    gptq(name, 4, 64, cols=96)


@case
def gptq_4bit_narrow_groups(name):
    gptq(name, 4, 16, sym=False, v1=False, checkpoint_format="gptq_v2")


@case
def gptq_3bit(name):
    gptq(name, 3, 32, out=32, cols=64, sym=False, v1=False, checkpoint_format="gptq_v2")


@case
def gptq_3bit_v1_act_order(name):
    gptq(name, 3, 32, sym=False, order=True, out=32, cols=64)


@case
def gptq_2bit(name):
    gptq(name, 2, 32, sym=False)


@case
def gptq_8bit(name):
    gptq(name, 8, 32, sym=False)


# AWQ, by AutoAWQ


def awq_tensors(weight, s, z, group):
    from awq.modules.linear.gemm import WQLinear_GEMM

    layer = WQLinear_GEMM.from_linear(linear(weight), 4, group, scales=s.t().contiguous(), zeros=z.t().contiguous())
    return {k: getattr(layer, k) for k in ("qweight", "qzeros", "scales")}


@case
def awq_4bit(name):
    _, s, z, weight = integers(seeded(name), 32, 64, 4, 32, False)
    config = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
    save(name, {"m." + k: v for k, v in awq_tensors(weight, s, z, 32).items()}, weight, config)


# compressed-tensors, by itself


def compress(name, weight, args, tensors, form, truth, dtype="float32", **scheme):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    s = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args), **scheme)
    t = BaseCompressor.get_value_from_registry(form).compress({"weight": weight, **tensors}, s)
    config = {
        "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "ignore": ["lm_head"],
        "kv_cache_scheme": None, "config_groups": {"group_0": json.loads(s.model_dump_json())},
    }
    save(name, {"m." + k: v for k, v in t.items()}, truth, config, dtype)


def compress_ints(name, form, bits, strategy, group=None, symmetric=True, out=16, cols=64, dtype=torch.bfloat16, **args):
    width = {"channel": cols, "tensor": cols}.get(strategy, group)
    q, s, z, truth = integers(seeded(name), out, cols, bits, width, symmetric, None, dtype)
    if strategy == "tensor":
        s, z = s[:1, 0], z[:1, 0]
        truth = s.float() * (q - z).float()
    tensors = {"weight_scale": s}
    if not symmetric:
        tensors["weight_zero_point"] = (z - 2 ** (bits - 1)).to(torch.int8)
    if strategy == "group":
        args["group_size"] = group
    args |= {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": strategy}
    # q is what is stored; the tool divides by a scale of 16 bits, and must come back to it.
    compress(name, truth, args, tensors, form, truth)


@case
def pack_4bit(name):
    compress_ints(name, "pack-quantized", 4, "group", 32)


@case
def pack_4bit_zeros(name):
    compress_ints(name, "pack-quantized", 4, "group", 32, symmetric=False, out=20)


@case
def pack_4bit_act_order(name):
    """Version 0.20 no longer writes actorder "group", which older checkpoints have: codes in their own order, and g_idx."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    index = (torch.arange(96) // 32)[torch.randperm(96, generator=seeded(name + "order"))]
    q, s, _, truth = integers(seeded(name), 16, 96, 4, 32, True, index, torch.bfloat16)
    tensors = {
        "m.weight_packed": pack_to_int32((q - 8).to(torch.int8), 4), "m.weight_scale": s, "m.weight_shape": torch.tensor(q.shape),
        "m.weight_g_idx": index.to(torch.int32),
    }
    args = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32, "actorder": "group"}
    save(name, tensors, truth, {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": args}},
    })


@case
def pack_3bit_zeros(name):
    compress_ints(name, "pack-quantized", 3, "group", 32, symmetric=False, out=20, dtype=torch.float16)


@case
def pack_5bit(name):
    compress_ints(name, "pack-quantized", 5, "group", 32)


@case
def pack_6bit_zeros_row(name):
    compress_ints(name, "pack-quantized", 6, "channel", symmetric=False, cols=70)


@case
def pack_8bit_row(name):
    compress_ints(name, "pack-quantized", 8, "channel")


@case
def pack_2bit_matrix(name):
    compress_ints(name, "pack-quantized", 2, "tensor")


@case
def int8_row(name):
    compress_ints(name, "int-quantized", 8, "channel", cols=70)


@case
def int8_zeros_group(name):
    compress_ints(name, "int-quantized", 8, "group", 32, symmetric=False)


@case
def int8_zeros_matrix(name):
    compress_ints(name, "int-quantized", 8, "tensor", symmetric=False, dtype=torch.float32)


def floats8(name, scale, out=24, cols=56):
    """Values that are a scale times an F8_E4M3."""
    code = (torch.randn(out, cols, generator=seeded(name)) * 60).to(torch.float8_e4m3fn)
    return code, code.float() * scale


@case
def float8_matrix(name):
    s = torch.tensor([0.0123])
    _, truth = floats8(name, s)
    compress(name, truth, {"num_bits": 8, "type": "float", "strategy": "tensor"}, {"weight_scale": s}, "float-quantized", truth)


@case
def float8_row(name):
    s = torch.rand(24, 1, generator=seeded(name)).to(torch.bfloat16) * 0.01 + 0.001
    _, truth = floats8(name, s.float())
    args = {"num_bits": 8, "type": "float", "strategy": "channel"}
    compress(name, truth, args, {"weight_scale": s}, "float-quantized", truth, "bfloat16")


def spread(scale, high, wide, out, cols):
    return scale.repeat_interleave(high, 0).repeat_interleave(wide, 1)[:out, :cols]


@case
def float8_block(name):
    s = torch.rand(2, 4, generator=seeded(name)) * 0.01 + 0.001
    _, truth = floats8(name, spread(s, 16, 16, 24, 56))
    args = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [16, 16]}
    compress(name, truth, args, {"weight_scale": s}, "float-quantized", truth)


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


@case
def nvfp4(name):
    rng = seeded(name)
    s = (torch.rand(16, 6, generator=rng) * 100 + 1).to(torch.float8_e4m3fn).float()
    top = torch.tensor([1234.5])
    truth = FP4[torch.randint(0, 16, (16, 96), generator=rng)] * (s / top).repeat_interleave(16, 1)
    args = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn}
    compress(name, truth, args, {"weight_scale": s, "weight_global_scale": top}, "nvfp4-pack-quantized", truth)


@case
def mxfp4(name):
    rng = seeded(name)
    s = torch.exp2(torch.randint(-14, 3, (16, 3), generator=rng).float())
    truth = FP4[torch.randint(0, 16, (16, 96), generator=rng)] * s.repeat_interleave(32, 1)
    args = {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8}
    compress(name, truth, args, {"weight_scale": s}, "mxfp4-pack-quantized", truth)


@case
def mxfp4_blocks(name):
    """The layout of gpt-oss has no writer on a CPU: random bytes, read by the tool."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    rng = seeded(name)
    blocks = torch.randint(0, 256, (16, 3, 16), generator=rng, dtype=torch.uint8)
    scales = torch.randint(110, 130, (16, 3), generator=rng, dtype=torch.uint8)
    truth = convert_moe_packed_tensors(blocks[None], scales[None], dtype=torch.float32)[0].t()
    config = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    save(name, {"m.weight_blocks": blocks, "m.weight_scales": scales}, truth, config)


# FP8 of transformers and DeepSeek, of vLLM's tools, and of GPTQModel


def fp8(name, tensors, truth, dtype="float32", **config):
    save(name, {"m." + k: v for k, v in tensors.items()}, truth, {"quant_method": "fp8", "activation_scheme": "dynamic", **config}, dtype)


@case
def fp8_block(name):
    """Blocks that reach beyond both edges, as DeepSeek's do."""
    s = torch.rand(2, 2, generator=seeded(name)) * 0.01 + 0.001
    code, truth = floats8(name, spread(s, 16, 32, 24, 56))
    fp8(name, {"weight": code, "weight_scale_inv": s}, truth, "bfloat16", weight_block_size=[16, 32], fmt="e4m3")


def transformers_fp8(name, scale_fmt):
    from transformers import FineGrainedFP8Config
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

    class Quantizer:
        quantization_config = FineGrainedFP8Config(weight_block_size=(16, 32), scale_fmt=scale_fmt)

    weight = torch.randn(32, 64, generator=seeded(name))
    t = Fp8Quantize(Quantizer)._quantize_one("m.weight", weight)
    truth = Fp8Dequantize(Quantizer)._dequantize_one(t["m.weight"], t["m.weight_scale_inv"], torch.float32)
    save(name, t, truth, json.loads(json.dumps(Quantizer.quantization_config.to_dict())))


@case
def fp8_transformers(name):
    transformers_fp8(name, "float")


@case
def fp8_transformers_powers(name):
    transformers_fp8(name, "ue8m0")


@case
def fp8_matrix(name):
    s = torch.tensor(0.0123)
    code, truth = floats8(name, s)
    fp8(name, {"weight": code, "weight_scale": s, "input_scale": torch.tensor(0.5)}, truth)


@case
def fp8_row(name):
    s = torch.rand(24, 1, generator=seeded(name)) * 0.01 + 0.001
    code, truth = floats8(name, s)
    fp8(name, {"weight": code, "weight_scale": s}, truth)


def gptqmodel_fp8(name, how, block=None):
    from gptqmodel.nn_modules.qlinear.fp8 import TorchFP8Linear

    weight = torch.randn(32, 64, generator=seeded(name))
    layer = TorchFP8Linear(bits=8, group_size=-1, sym=True, desc_act=False, in_features=64, out_features=32,
                           weight_scale_method=how, weight_block_size=block)
    layer.pack(linear(weight), None, None)
    truth = layer.weight.float() / layer._expanded_scale_inv(target_device=torch.device("cpu"), target_dtype=torch.float32)
    fp8(name, {"weight": layer.weight, "weight_scale_inv": layer.weight_scale_inv}, truth, method="fp8", format="float8_e4m3fn",
        bits=8, group_size=-1, weight_scale_method=how, weight_block_size=block, weight_scale_semantics="inverse")


@case
def fp8_divided_row(name):
    gptqmodel_fp8(name, "row")


@case
def fp8_divided_block(name):
    gptqmodel_fp8(name, "block", [16, 32])


# bitsandbytes, by itself


def bnb4_tensors(weight, kind, nested, block=64):
    from bitsandbytes import functional

    code, state = functional.quantize_4bit(weight, quant_type=kind, compress_statistics=nested, blocksize=block)
    truth = functional.dequantize_4bit(code, state)
    return {"weight": code} | {"weight." + k: v for k, v in state.as_dict(packed=True).items()}, truth


def bnb4(name, kind, nested, block=64, out=21, cols=75):
    weight = torch.randn(out, cols, generator=seeded(name))
    weight.view(-1)[block : 2 * block] = 0  # a block of zeros
    tensors, truth = bnb4_tensors(weight, kind, nested, block)
    config = {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": kind,
        "bnb_4bit_use_double_quant": nested, "bnb_4bit_quant_storage": "uint8", "llm_int8_skip_modules": None,
    }
    save(name, {"m." + k: v for k, v in tensors.items()}, truth, config)


@case
def bnb_nf4(name):
    bnb4(name, "nf4", False)


@case
def bnb_nf4_nested(name):
    bnb4(name, "nf4", True, block=32, out=27, cols=305)  # more than one block of blocks


@case
def bnb_fp4(name):
    bnb4(name, "fp4", False, block=128)


@case
def bnb_int8(name):
    from bitsandbytes import functional

    weight = torch.randn(16, 70, generator=seeded(name)).half()
    weight[3] = 0
    code, absmax, _ = functional.int8_vectorwise_quant(weight)
    truth = functional.int8_vectorwise_dequant(code, absmax)
    config = {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True, "llm_int8_threshold": 6.0}
    save(name, {"m.weight": code, "m.SCB": absmax, "m.weight_format": torch.tensor(0, dtype=torch.uint8)}, truth, config)


# Whole checkpoints: the golden llama with one layer and 96 words of its vocabulary


def checkpoint(name, quantize, config, keep=("lm_head",), bias=False):
    """Writes a checkpoint whose matrices quantize(weight) gives as tensors and truth, and the logits of the truth."""
    from transformers import LlamaConfig, LlamaForCausalLM

    source = ROOT / "model" / "testdata" / "llama"
    settings = json.loads((source / "config.json").read_text())
    settings |= {"num_hidden_layers": 1, "vocab_size": 96}
    tensors, dense = {}, {}
    for key, value in load_file(source / "model.safetensors").items():
        if ".layers." in key and ".layers.0." not in key:
            continue
        if "embed_tokens" in key or "lm_head" in key:
            value = value[:96]
        module = key.removesuffix(".weight")
        if module.endswith("_proj") or module == "lm_head" and module not in keep:
            parts, dense[key] = quantize(value.float())
            tensors |= {f"{module}.{k}": v for k, v in parts.items()}
            if bias:
                tensors[module + ".bias"] = torch.zeros(value.shape[0], dtype=torch.float16)
        else:
            tensors[key] = value.to(torch.float16)
            dense[key] = tensors[key].float()
    model = LlamaForCausalLM(LlamaConfig(**settings, attn_implementation="eager")).float().eval()
    model.load_state_dict(dense)
    ids = torch.randint(0, 96, (16,), generator=seeded(name), dtype=torch.int32)
    with torch.no_grad():
        logits = model(ids[None].long()).logits[0]
    folder = TESTDATA / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    save_file({"ids": ids, "logits": logits.contiguous()}, folder / "golden.safetensors")
    (folder / "config.json").write_text(json.dumps(settings | {"quantization_config": config}, indent=2) + "\n")


def round_to_groups(weight, bits, group, dtype=torch.float16):
    """Rounds to the nearest, with zero points, and returns what integers does."""
    out, cols = weight.shape
    parts = weight.view(out, cols // group, group)
    low, high = parts.amin(2).clamp(max=0), parts.amax(2).clamp(min=0)
    s = ((high - low) / (2**bits - 1)).to(dtype)
    z = torch.round(-low / s.float()).clamp(0, 2**bits - 1).long()
    q = torch.round(parts / s.float()[:, :, None] + z[:, :, None]).clamp(0, 2**bits - 1)
    return s, z, (s.float()[:, :, None] * (q - z[:, :, None])).view(out, cols)


@case
def llama_gptq(name):
    """Act-order, in version 1, with the zero biases that AutoGPTQ wrote; the head is quantized too."""
    def quantize(weight):
        cols = weight.shape[1]
        rng = torch.Generator().manual_seed(cols)
        order = torch.randperm(cols, generator=rng)
        s, z, sorted_truth = round_to_groups(weight[:, order], 4, 32)
        truth = torch.empty_like(sorted_truth)
        truth[:, order] = sorted_truth
        index = torch.empty(cols, dtype=torch.int32)
        index[order] = (torch.arange(cols) // 32).to(torch.int32)
        return gptq_tensors(truth, s, z, 4, 32, False, True, index), truth

    checkpoint(name, quantize, {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False, "lm_head": True},
               keep=(), bias=True)


@case
def llama_pack(name):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    args = QuantizationArgs(num_bits=4, type="int", symmetric=False, strategy="group", group_size=32)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)

    def quantize(weight):
        s, z, truth = round_to_groups(weight, 4, 32, torch.bfloat16)
        t = {"weight": truth, "weight_scale": s, "weight_zero_point": (z - 8).to(torch.int8)}
        return BaseCompressor.get_value_from_registry("pack-quantized").compress(t, scheme), truth

    checkpoint(name, quantize, {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
        "config_groups": {"group_0": json.loads(scheme.model_dump_json())},
    })


@case
def llama_nf4(name):
    checkpoint(name, lambda w: bnb4_tensors(w, "nf4", True), {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    })


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"all of them by default: {', '.join(CASES)}")
    TESTDATA.mkdir(exist_ok=True)
    for name in parser.parse_args().cases or CASES:
        CASES[name](name)


if __name__ == "__main__":
    main()
