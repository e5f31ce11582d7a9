"""Writes variants.json.gz: golden tokenizers with a component changed, and what
the Python package tokenizers makes of some texts with them."""

import gzip
import json
import os

import tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))

TEXTS = [
    "", " ", "\n", "Hello, World!", "  two  spaces,   three    four ", "don't DON'T we'LL they've I'm it'ſ x'S",
    "func (t *T) Get(key string) (int, error) {\n\treturn t.m[key], nil\n}\n\n", "\r\n\r\n x\r\n", "tabs\t\t\tand \u00a0\u3000 odd\u2028spaces\u0085",
    "0 12 123 1234 12345 1234567 3.14 １２３４ ½²Ⅷ", "camelCaseHTTPServer2Go XMLHttpRequest ǅuro ALLCAPS", "a_b-c/d\\e // path/to/file.go --flag=1",
    "Ünïcödé café e\u0301 \u0301x ﬁne İstanbul ß ẞ Σίσυφος", "中文字符和日本語のテキスト、한국어 텍스트。", "हिन्दी देवनागरी ไทย العربية עברית",
    "emoji 👨‍👩‍👧 🤷🏽‍♀️ 😀😀 ✓…—“quotes”", "<s>not special</s> <unk> <|eot|> <|begin_of_text|>x", "▁lower ▁▁block Ġ Ċ", "\u0000\u0001\u001b[0m\ufeff\u200d",
    "[PAD] x  [PAD]  y[PAD]", "WORD xWORD WORDx WORD, <tool_call>{}</tool_call>", "x" * 70 + " " * 40 + "=" * 30, "ab\nb  abbb a b\tb", "  leading", "trailing  ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠀀𪚥", "(a, b, c) => { return a+b*c; };", "e.g. 10,000.50€ @user #tag $9 a@b.co",
]

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
WORDS = dict(BYTES, use_regex=True)
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

PATTERNS = {
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen3.5": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "set in set": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "threes from the right": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
    "word boundary": r"\d{1,3}(?=(?:\d{3})*\b)|\b\w",
    "word": r"\w+|[^\w\s]+|\s",
    "look behind": r"(?<=\s)\S+|(?<!a)b+",
    "lazy": r"a.*?b|\S+?\b",
    "escapes": r"[\u0400-\u04ff]+|\x{1F600}|[\x20-\x2f]+|[\]\-\\]",
    "lines": r"^\s+|\s+$|\A\w|.\z",
    "scripts": r"\p{Han}+|\p{Hiragana}+|[^\p{Latin}\s]",
    "line ends": r"[\r\n]",
}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def normalizers(*parts):
    return {"type": "Sequence", "normalizers": list(parts)}


def metaspace(scheme, cut=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


def read(kind):
    with gzip.open(os.path.join(HERE, kind, "tokenizer.json.gz"), "rt", encoding="utf-8") as f:
        return json.load(f)


def variants():
    """Yields name, base, the fields to set, and what else to change."""
    for name, pattern in PATTERNS.items():
        yield "pattern: " + name, "gpt2", {"pre_tokenizer": sequence(split(pattern), BYTES)}, {}
    for b in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in [False, True]:
            yield f"split: {b} {invert}", "gpt2", {"pre_tokenizer": sequence(split(r"\s+|\d", b, invert), BYTES)}, {}
            yield f"split at a string: {b} {invert}", "gpt2", {"pre_tokenizer": sequence(split(" ", b, invert, "String"), BYTES)}, {}
        yield f"punctuation: {b}", "gpt2", {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": b}, WORDS)}, {}
    yield "whitespace", "gpt2", {"pre_tokenizer": sequence({"type": "Whitespace"}, BYTES)}, {}
    yield "whitespace split", "gpt2", {"pre_tokenizer": sequence({"type": "WhitespaceSplit"}, BYTES)}, {}
    yield "digits together", "gpt2", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, WORDS)}, {}
    yield "bytes in the middle", "gpt2", {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": "Contiguous"}, WORDS, {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]"))}, {}
    yield "bytes twice", "gpt2", {"pre_tokenizer": sequence(WORDS, BYTES)}, {}
    yield "no pre-tokenizer", "gpt2", {"pre_tokenizer": None}, {}
    for n in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"]:
        yield "normalizer: " + n, "llama3", {"normalizer": {"type": n}}, {}
    yield "normalizer: strip", "llama3", {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}}, {}
    yield "normalizer: sequence", "gpt2", {"normalizer": normalizers({"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "})}, {}
    yield "normalizer: bytes", "gpt2", {"normalizer": {"type": "ByteLevel"}, "pre_tokenizer": None}, {}
    for scheme in ["first", "always", "never"]:
        for cut in [True, False]:
            for base in ["llama2-bytefallback", "unigram"]:
                fields = {"normalizer": None, "pre_tokenizer": metaspace(scheme, cut), "decoder": metaspace(scheme)}
                yield f"metaspace: {scheme} {cut} {base}", base, fields, {}
                squeezed = normalizers({"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
                yield f"metaspace behind strip: {scheme} {cut} {base}", base, dict(fields, normalizer=squeezed), {}
    added = read("added-tokens")["added_tokens"]
    lower = added[:3] + [dict(t, normalized=True) for t in added[3:]]
    yield "added tokens normalised", "added-tokens", {"added_tokens": lower, "normalizer": {"type": "Lowercase"}}, {}
    yield "added tokens prepended", "added-tokens", {"added_tokens": lower, "normalizer": {"type": "Prepend", "prepend": "▁"}}, {}
    stripped = [dict(t, lstrip=True, rstrip=True, special=True) for t in added]
    yield "added tokens stripped", "added-tokens", {"added_tokens": stripped}, {}
    yield "unknown fused", "llama2-bytefallback", {"model.byte_fallback": False}, {}
    yield "unknown one by one", "llama2-bytefallback", {"model.byte_fallback": False, "model.fuse_unk": False}, {}
    yield "unknown dropped", "llama2-bytefallback", {"model.byte_fallback": False, "model.unk_token": None}, {}
    yield "a byte missing", "llama2-bytefallback", {}, {"drop": ["<0xE4>", "<0xF0>"]}
    yield "merges ignored", "llama2-bytefallback", {"model.ignore_merges": True}, {}
    yield "merges as strings", "gpt2", {}, {"strings": True}
    yield "no decoder", "gpt2", {"decoder": None}, {}
    yield "decoders behind bytes", "gpt2", {"decoder": {"type": "Sequence", "decoders": [WORDS, {"type": "Strip", "content": " ", "start": 2, "stop": 0}, {"type": "Replace", "pattern": {"String": "er"}, "content": "<ER>"}]}}, {}
    yield "strip of each token", "llama2-bytefallback", {"decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}, {"type": "Fuse"}]}}, {}
    yield "unigram with bytes", "unigram", {"model.byte_fallback": True, "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, metaspace("always")]}}, {"bytes": True}
    yield "roberta", "gpt2", {"post_processor": {"type": "RobertaProcessing", "sep": ["<|eot|>", 2], "cls": ["<|begin_of_text|>", 0], "trim_offsets": True, "add_prefix_space": True}}, {}


def main():
    out = {"reference": "tokenizers " + tokenizers.__version__, "texts": TEXTS, "variants": []}
    for name, base, fields, change in variants():
        doc = read(base)
        for path, value in fields.items():
            *outer, last = path.split(".")
            (doc[outer[0]] if outer else doc)[last] = value
        model = doc["model"]
        for token in change.get("drop", []):
            del model["vocab"][token]
        if "strings" in change:
            model["merges"] = [" ".join(m) for m in model["merges"]]
        if "bytes" in change:
            model["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
        t = tokenizers.Tokenizer.from_str(json.dumps(doc))
        ids = [t.encode(text).ids for text in TEXTS]
        decoded = [t.decode(i, skip_special_tokens=False) for i in ids]
        out["variants"].append({"name": name, "base": base, "set": fields, **change, "ids": ids, "decoded": decoded})
    packed = gzip.compress(json.dumps(out, ensure_ascii=False).encode(), 9, mtime=0)
    with open(os.path.join(HERE, "variants.json.gz"), "wb") as f:
        f.write(packed)


main()
