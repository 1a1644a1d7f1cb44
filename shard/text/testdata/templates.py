#!/usr/bin/env python3
"""Renders the chat templates inside the GGUF files of DIR with Python's jinja2, set up as
../jinja/testdata/golden.py does, over the chats of ../jinja/testdata/contexts.json, and writes
golden.templates.json.   pip install jinja2==3.1.6 gguf==0.19.0 && python3 templates.py DIR"""
import json
import os
import sys

from gguf import GGUFReader

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "jinja", "testdata"))
import golden  # noqa: E402


def main():
    with open(os.path.join(HERE, "..", "jinja", "testdata", "contexts.json"), encoding="utf-8") as f:
        contexts = json.load(f)
    cases = []
    for file in ("SmolLM2-135M-Instruct.Q4_1.gguf", "qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf"):
        fields = GGUFReader(os.path.join(sys.argv[1], file)).fields
        source = fields["tokenizer.chat_template"].contents()
        for name in sorted(contexts):
            if name == "snippets":
                continue
            context = {"tools": None, "documents": None, "add_generation_prompt": False,
                       "bos_token": "", "eos_token": "", **contexts[name]}
            cases.append({"file": file, "context": name, **golden.render(golden.environment(), source, context)})
    with open(os.path.join(HERE, "golden.templates.json"), "w", encoding="utf-8") as f:
        json.dump({"now": golden.NOW.isoformat(), "cases": cases}, f, ensure_ascii=False, indent=1)
        f.write("\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")


if __name__ == "__main__":
    main()
