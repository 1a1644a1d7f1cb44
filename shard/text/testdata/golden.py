#!/usr/bin/env python3
"""Writes the golden files of the tokenizer tests: the texts of texts.json as Hugging Face's tokenizers
and Google's sentencepiece turn them into ids, and checks these against llama.cpp.

    pip install tokenizers==0.23.3 gguf==0.19.0 sentencepiece==0.2.3 xllamacpp
    python3 golden.py DIR        # DIR holds the GGUF files, ~/.cache/lamina/models

Not part of CI: the golden files are committed. Models that DIR lacks keep their golden files."""
import json
import os
import shutil
import sys
import tempfile
import urllib.request

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
CONTROL, USER, UNUSED = 3, 4, 5
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


SLASH = REST.replace(r"[\r\n]*|\s*", r"[\r\n/]*|\s*")


def cased(end):
    """A word with its capitals first."""
    start, upper, lower = r"[^\r\n\p{L}\p{N}]?", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    return f"{start}{upper}*{lower}+{end}|{start}{upper}+{lower}*{end}"


def split(regex):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def pre_tokenizer(pre):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return {
        "gpt-2": byte_level,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
        "llama-bpe": split(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST),
        "qwen2": split(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST),
        "gpt-4o": split(cased(CONTRACTION + "?") + r"|\p{N}{1,3}" + SLASH),
        "tekken": split(cased("") + r"|\p{N}" + SLASH),
        "qwen35": split(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}" + REST.replace(r"\p{L}", r"\p{L}\p{M}")),
    }[pre]


def hugging_face(fields, pre, control):
    """Builds the tokenizer of a GGUF file with a given pre-tokenizer."""
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    vocab = {t: i for i, t in enumerate(tokens)}
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre in ("llama-bpe", "tekken")))
    if pre in ("qwen2", "qwen35"):
        t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizer(pre)
    wanted = (USER, CONTROL) if control else (USER,)
    t.add_tokens([AddedToken(tokens[i], normalized=False) for i, k in enumerate(types) if k in wanted])
    return t


class LlamaCpp:
    """llama.cpp's tokenizer, asked through its server."""

    def __init__(self, path):
        import xllamacpp

        p = xllamacpp.CommonParams()
        p.model.path, p.n_ctx, p.warmup = path, 64, False
        self.server = xllamacpp.Server(p)

    def encode(self, text, control):
        body = json.dumps({"content": text, "add_special": False, "parse_special": control}).encode()
        request = urllib.request.Request(self.server.listening_address + "/tokenize", body,
                                         {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["tokens"]


def write(name, head, texts, rows):
    """rows: for each text a list of ids for every mode."""
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
        f.write("{" + json.dumps(head)[1:-1] + ',\n"ids": [\n')
        f.write(",\n".join(json.dumps(r, separators=(",", ":")) for r in rows))
        f.write("\n]}\n")
    print(name, len(texts), "texts")


def byte_level(path, file, pres, texts):
    fields = GGUFReader(path).fields
    own = fields["tokenizer.ggml.pre"].contents()
    cpp = LlamaCpp(path)
    for pre in pres:
        special, plain = hugging_face(fields, pre, True), hugging_face(fields, pre, False)
        rows = []
        for text in texts:
            row = [special.encode(text, add_special_tokens=False).ids, plain.encode(text, add_special_tokens=False).ids]
            rows.append(row)
            if pre == own:
                for control, ids in zip((True, False), row):
                    other = cpp.encode(text, control)
                    if other != ids:
                        print(f"  llama.cpp differs on {text[:50]!r}, special={control}")
        write(f"golden.{own}.{pre}.json", {"file": file, "pre": pre, "reference": "tokenizers 0.23.3"}, texts, rows)


def sentencepiece_real(path, file, texts):
    """A real vocabulary with user-defined tokens; once more with add_space_prefix switched on in a copy."""
    with tempfile.TemporaryDirectory() as d:
        copy = shutil.copy(path, d)
        reader = GGUFReader(copy, "r+")
        field = reader.fields["tokenizer.ggml.add_space_prefix"]
        field.parts[field.data[0]][0] = True
        reader.data.flush()
        for name, p in (("gemma", path), ("gemma.prefix", copy)):
            cpp = LlamaCpp(p)
            rows = [[cpp.encode(t, True), cpp.encode(t, False)] for t in texts]
            write(f"golden.{name}.json", {"file": file, "pre": "", "reference": "llama.cpp"}, texts, rows)


def sentencepiece_tiny(texts):
    """Trains a small vocabulary on the texts and writes it with the ids that sentencepiece gives."""
    import sentencepiece as sp

    with tempfile.TemporaryDirectory() as d:
        corpus, prefix = os.path.join(d, "corpus.txt"), os.path.join(d, "tiny")
        with open(corpus, "w", encoding="utf-8") as f:
            for text in texts:
                f.write(text.replace("\n", " ").replace("\r", " ").replace("\0", " ") + "\n")
        sp.SentencePieceTrainer.train(
            input=corpus, model_prefix=prefix, model_type="bpe", vocab_size=1400, byte_fallback=True,
            character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
            add_dummy_prefix=True, split_digits=True, allow_whitespace_only_pieces=True,
            minloglevel=2)
        m = sp.SentencePieceProcessor(model_file=prefix + ".model")
    kinds = [2 if m.is_unknown(i) else 3 if m.is_control(i) else 6 if m.is_byte(i) else 1
             for i in range(m.vocab_size())]
    head = {
        "reference": "sentencepiece 0.2.3",
        "tokens": [m.id_to_piece(i) for i in range(m.vocab_size())],
        "scores": [m.get_score(i) for i in range(m.vocab_size())],
        "kinds": kinds,
    }
    write("golden.sentencepiece.json", head, texts, [[m.encode(t)] for t in texts])


def wordpiece_tiny(texts, cased):
    """Trains a small vocabulary of BERT's kind, and writes it as GGUF does: U+2581 begins a word, ## is left out."""
    from tokenizers import trainers

    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # A token of one character that no text but the last ones has stays unknown.
    t.train_from_iterator(texts[:-30], trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False))
    vocab = sorted(t.get_vocab().items(), key=lambda x: x[1])
    tokens = [w if w in special else w[2:] if w.startswith("##") else "\u2581" + w for w, _ in vocab]
    head = {"reference": "tokenizers 0.23.3", "tokens": tokens, "kinds": [3 if w in special else 1 for w, _ in vocab]}
    # As text, special tokens are cut at their brackets.
    ids = Tokenizer(models.WordPiece(vocab=dict(vocab), unk_token="[UNK]"))
    ids.normalizer, ids.pre_tokenizer = t.normalizer, t.pre_tokenizer
    write(f"golden.wordpiece.{'cased' if cased else 'uncased'}.json", head, texts, [[ids.encode(x, add_special_tokens=False).ids] for x in texts])


def main():
    folder = sys.argv[1]
    with open(os.path.join(HERE, "texts.json"), encoding="utf-8") as f:
        texts = json.load(f)
    sentencepiece_tiny(texts)
    wordpiece_tiny(texts, False)
    wordpiece_tiny(texts, True)
    for file, pres in (
        ("SmolLM2-135M-Instruct.Q4_1.gguf", ["smollm", "gpt-2", "llama-bpe", "gpt-4o", "tekken"]),
        ("qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf", ["qwen2", "llama-bpe", "qwen35"]),
    ):
        path = os.path.join(folder, file)
        if os.path.exists(path):
            byte_level(path, file, pres, texts)
    file = "gemma-3-270m-Q4_K_M.gguf"
    if os.path.exists(os.path.join(folder, file)):
        sentencepiece_real(os.path.join(folder, file), file, texts)


if __name__ == "__main__":
    main()
