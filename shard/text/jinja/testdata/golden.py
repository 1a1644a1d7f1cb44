#!/usr/bin/env python3
"""Renders every template of this folder with Python's jinja2, set up as transformers does for chat
templates, and writes golden.json. Run it here after a change of snippets.txt, contexts.json or
templates/*.jinja:   pip install jinja2==3.1.6 && python3 golden.py
Not part of CI: the golden file is committed."""
import datetime
import glob
import json
import os

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = datetime.datetime(2025, 3, 7, 9, 5, 2, 123456)


class Generation(jinja2.ext.Extension):
    """The {% generation %} block: its body has a scope of its own and is printed as it is."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_print")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _print(self, caller):
        return caller()


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: NOW.strftime(f)
    return env


def render(env, source, context):
    try:
        return {"text": env.from_string(source).render(**context)}
    except Exception as e:  # every failure is a result here
        return {"error": f"{type(e).__name__}: {e}"[:200]}


def snippets():
    name, lines = None, []
    with open(os.path.join(HERE, "snippets.txt"), encoding="utf-8", newline="") as f:
        for line in f.read().split("\n"):
            if line.startswith("### "):
                if name:
                    yield name, "\n".join(lines)
                name, lines = line[4:], []
            else:
                lines.append(line)
    yield name, "\n".join(lines)


def main():
    with open(os.path.join(HERE, "contexts.json"), encoding="utf-8") as f:
        contexts = json.load(f)
    env = environment()
    cases = []
    for name, source in snippets():
        cases.append({"name": "snippet/" + name, "source": source, "context": "snippets",
                      **render(env, source, contexts["snippets"])})
    for path in sorted(glob.glob(os.path.join(HERE, "templates", "*.jinja"))):
        with open(path, encoding="utf-8", newline="") as f:
            source = f.read()
        for context in sorted(contexts):
            if context != "snippets":
                file = os.path.basename(path)
                cases.append({"name": f"{file}/{context}", "file": file, "context": context,
                              **render(env, source, contexts[context])})
    with open(os.path.join(HERE, "golden.json"), "w", encoding="utf-8") as f:
        json.dump({"now": NOW.isoformat(), "cases": cases}, f, ensure_ascii=False, indent=1)
        f.write("\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")


if __name__ == "__main__":
    main()
