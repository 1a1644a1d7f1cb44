#!/usr/bin/env python3
"""Asks a running node with the official openai client, unchanged but for base_url, and checks what comes back.

usage: openai_client.py BASE_URL MODEL        (exits with 0 only if everything is as an OpenAI client expects)
"""
import sys

import openai

base, model = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=base, api_key="none-on-loopback", max_retries=0, timeout=120)
ask = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "Say hello, then count from one to five."}]
passed = 0


def check(what, ok, got=None):
    global passed
    if not ok:
        sys.exit(f"FAILED {what}: {got!r}")
    passed += 1
    print("ok", what)


def refused(what, kind, call, **fields):
    try:
        call()
    except kind as e:
        body = e.body or {}
        check(what, all(body.get(k) == v for k, v in fields.items()) and body.get("message"), body)
        return
    sys.exit(f"FAILED {what}: nothing was raised")


# models
ids = [m.id for m in client.models.list()]
check("models.list", model in ids, ids)
one = client.models.retrieve(model)
check("models.retrieve", one.id == model and isinstance(one.created, int) and one.owned_by, one)
refused("models.retrieve of an unknown one", openai.NotFoundError, lambda: client.models.retrieve("nonesuch"), code="model_not_found")

# chat
r = client.chat.completions.create(model=model, messages=ask, max_tokens=24, temperature=0, seed=7)
whole = r.choices[0].message.content
check("chat", r.object == "chat.completion" and r.choices[0].message.role == "assistant" and whole, r)
check("usage", r.usage.completion_tokens <= 24 and r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens, r.usage)
check("finish reason", r.choices[0].finish_reason in ("stop", "length"), r.choices[0].finish_reason)
again = client.chat.completions.create(model=model, messages=ask, max_completion_tokens=24, temperature=0)
check("max_completion_tokens, and the same answer again", again.choices[0].message.content == whole, again)
short = client.chat.completions.create(model=model, messages=ask, max_tokens=3, temperature=0)
check("length", short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3, short)

# a stream
text, finish, usage, roles = "", None, None, []
for chunk in client.chat.completions.create(model=model, messages=ask, max_tokens=24, temperature=0, stream=True, stream_options={"include_usage": True}):
    if chunk.usage:
        usage = chunk.usage
    for c in chunk.choices:
        text += c.delta.content or ""
        finish = c.finish_reason or finish
        if c.delta.role:
            roles.append(c.delta.role)
check("stream gives the same text", text == whole, (text, whole))
check("stream ends with reason and usage", finish == r.choices[0].finish_reason and usage and usage.total_tokens == r.usage.total_tokens, (finish, usage))
check("stream says the role once", roles == ["assistant"], roles)

# sampling with a seed
a, b = (client.chat.completions.create(model=model, messages=ask, max_tokens=16, temperature=0.9, top_p=0.95, seed=11).choices[0].message.content for _ in range(2))
check("seed repeats", a == b, (a, b))
many = client.chat.completions.create(model=model, messages=ask, max_tokens=4, temperature=1, n=3, seed=5)
check("n", sorted(c.index for c in many.choices) == [0, 1, 2], many)
biased = client.chat.completions.create(model=model, messages=ask, max_tokens=2, temperature=0, logit_bias={"28": 100})
check("logit_bias", biased.choices[0].message.content, biased)

# log probabilities
lp = client.chat.completions.create(model=model, messages=ask, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3).choices[0].logprobs.content
check("logprobs", len(lp) == 5 and all(len(t.top_logprobs) == 3 and t.logprob <= 0 and t.bytes for t in lp), lp)
check("greedy takes the likeliest", all(t.token == t.top_logprobs[0].token for t in lp), lp)

# stop
stop = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Count: one two three four five six"}], max_tokens=40, temperature=0, stop=["e", "o"]).choices[0]
check("stop is not in the text", stop.finish_reason == "stop" and not set("eo") & set(stop.message.content), stop)

# completions
c = client.completions.create(model=model, prompt="The capital of France is", max_tokens=5, temperature=0)
check("completions", c.object == "text_completion" and "Paris" in c.choices[0].text, c)
e = client.completions.create(model=model, prompt="The capital of France is", max_tokens=1, temperature=0, echo=True, logprobs=2)
l = e.choices[0].logprobs
check("echo with logprobs", e.choices[0].text.startswith("The capital of France is") and l.token_logprobs[0] is None and len(l.tokens) == len(l.token_logprobs) == 6, l)
scored = client.completions.create(model=model, prompt="The capital of France is", max_tokens=0, temperature=0, echo=True, logprobs=2)
s = scored.choices[0].logprobs
check("a prompt scored without an answer", scored.choices[0].text == "The capital of France is" and s.tokens == l.tokens[:-1] and s.token_logprobs == l.token_logprobs[:-1] and scored.usage.completion_tokens == 0, scored)
accents = client.completions.create(model=model, prompt="Zürich 🌱", max_tokens=0, echo=True, logprobs=0).choices[0].text
check("an echoed prompt keeps its characters", accents == "Zürich 🌱", accents)
one = client.completions.create(model=model, prompt=[504], max_tokens=0, echo=True, logprobs=0).choices[0].logprobs
check("a prompt of one token", len(one.tokens) == 1 and one.token_logprobs == [None], one)
both = client.completions.create(model=model, prompt=["One, two,", "Red, green,"], max_tokens=2, temperature=0)
check("a list of prompts", [x.index for x in both.choices] == [0, 1], both)
streamed = "".join(x.choices[0].text for x in client.completions.create(model=model, prompt="The capital of France is", max_tokens=5, temperature=0, stream=True) if x.choices)
check("completions stream", streamed == c.choices[0].text, (streamed, c.choices[0].text))

# responses
resp = client.responses.create(model=model, input=ask, max_output_tokens=16, temperature=0)
check("responses", resp.output_text and resp.status in ("completed", "incomplete") and resp.usage.output_tokens == 16, resp)
check("responses and chat agree", resp.output_text == client.chat.completions.create(model=model, messages=ask, max_tokens=16, temperature=0).choices[0].message.content, resp)
events = list(client.responses.create(model=model, input=ask, max_output_tokens=16, temperature=0, stream=True))
check("responses stream", "".join(e.delta for e in events if e.type == "response.output_text.delta") == resp.output_text, events)
check("responses stream's frame", events[0].type == "response.created" and events[-1].response.output_text == resp.output_text and [e.sequence_number for e in events] == list(range(len(events))), events)
back = client.responses.create(model=model, input=ask, max_output_tokens=16, temperature=0, background=True)
check("responses in the background", back.status in ("queued", "in_progress") and back.background, back)
seen = list(client.responses.retrieve(back.id, stream=True))
check("followed from the beginning", seen[0].type == "response.created" and seen[1].type == "response.queued" and seen[-1].response.output_text == resp.output_text, seen)
rest = list(client.responses.retrieve(back.id, stream=True, starting_after=7))
check("followed from the middle", [e.sequence_number for e in rest] == [e.sequence_number for e in seen[8:]] and rest[-1].response.output_text == resp.output_text, rest)
check("retrieved at the end", client.responses.retrieve(back.id).output_text == resp.output_text)
gone = client.responses.create(model=model, input="Write a long story.", max_output_tokens=2000, background=True)
check("cancelled", client.responses.cancel(gone.id).status == "cancelled" and client.responses.retrieve(gone.id).status == "cancelled", gone)
refused("no such response", openai.NotFoundError, lambda: client.responses.retrieve("resp_nonesuch"), code="response_not_found")
refused("tools in responses", openai.BadRequestError, lambda: client.responses.create(model=model, input="x", tools=[{"type": "web_search"}]), param="tools")

# what cannot be answered
chat = client.chat.completions.create
refused("unknown model", openai.NotFoundError, lambda: chat(model="nonesuch", messages=ask), code="model_not_found")
refused("temperature out of range", openai.BadRequestError, lambda: chat(model=model, messages=ask, temperature=-3), param="temperature")
refused("top_p out of range", openai.BadRequestError, lambda: chat(model=model, messages=ask, top_p=7), param="top_p")
refused("no messages", openai.BadRequestError, lambda: chat(model=model, messages=[]), param="messages")
refused("too long", openai.BadRequestError, lambda: chat(model=model, messages=[{"role": "user", "content": "word " * 20000}]), code="context_length_exceeded")

print(f"{passed} passed, 0 failed")
