"""The official openai client against the server: what a user's program does, and the exceptions that it catches.

    test_openai.py path/to/serve [words]

starts servers on free ports of the loopback, runs every test whose name contains one of the words (all without words),
and exits with 1 if one fails.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

import openai

KEY = "interop-key"
CHAT = [{"role": "user", "content": "Reverse returns its argument string reversed rune-wise left to right."}]


class Server:
    """A server in a process of its own, with one API key."""

    def __init__(self, binary, *flags):
        self.folder = tempfile.TemporaryDirectory()
        keys = os.path.join(self.folder.name, "keys")
        with open(keys, "w") as f:
            f.write(KEY + "\n")
        self.process = subprocess.Popen(
            [binary, "--addr", "127.0.0.1:0", "--api-key-file", keys, "--log-level", "warn", *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if match := re.match(r"listening on (http://\S+)", line):
                self.url = match[1]
                break
        else:
            raise SystemExit("the server did not start:\n" + "".join(self.said))
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()
        self.client = self.connect()
        self.model = self.client.models.list().data[0].id

    def connect(self, **options):
        return openai.OpenAI(**{"base_url": self.url + "/v1", "api_key": KEY, "max_retries": 0, "timeout": 120, **options})

    def get(self, path):
        request = urllib.request.Request(self.url + path, headers={"Authorization": "Bearer " + KEY})
        with urllib.request.urlopen(request) as answer:
            return answer.read().decode()

    def metric(self, name):
        return float(re.search(rf"^{name}{{[^}}]*}} (\S+)$", self.get("/metrics"), re.M)[1])

    def idle(self):
        """Waits until nothing runs, and returns the blocks still held."""
        for _ in range(500):
            if self.metric("eckart_num_requests_running") + self.metric("eckart_num_requests_waiting") == 0:
                return self.metric("eckart_kv_cache_blocks_used")
            time.sleep(0.02)
        raise AssertionError("requests still run")

    def stop(self):
        """Ends the server as a supervisor does, and returns its status."""
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.folder.cleanup()


@contextlib.contextmanager
def raises(kind, code=None, param=None, text=""):
    try:
        yield
    except kind as e:
        body = e.body or {}
        assert type(e) is kind, f"{type(e).__name__}, want {kind.__name__}"
        assert code is None or e.code == code, f"code {e.code}, want {code}"
        assert param is None or e.param == param, f"param {e.param}, want {param}"
        assert text in body.get("message", ""), f"{text!r} is not in {body}"
    else:
        raise AssertionError(f"no {kind.__name__}")


def test_models(s):
    models = s.client.models.list().data
    assert len(models) == 1 and models[0].object == "model" and models[0].created > 0
    one = s.client.models.retrieve(s.model)
    assert one.id == s.model and one.max_model_len > 100


def test_chat(s):
    r = s.client.chat.completions.create(model=s.model, messages=CHAT, max_tokens=24, temperature=0)
    choice = r.choices[0]
    assert r.object == "chat.completion" and r.id.startswith("chatcmpl-") and r.model == s.model
    assert choice.message.role == "assistant" and choice.message.content and choice.index == 0
    assert choice.finish_reason in ("stop", "length")
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens
    assert 0 < r.usage.completion_tokens <= 24 and r.usage.prompt_tokens_details.cached_tokens >= 0


def test_chat_parts(s):
    whole = s.client.chat.completions.create(model=s.model, messages=CHAT, max_completion_tokens=12, temperature=0)
    parts = [{"role": "user", "content": [{"type": "text", "text": CHAT[0]["content"]}]}]
    split = s.client.chat.completions.create(model=s.model, messages=parts, max_completion_tokens=12, temperature=0)
    assert whole.choices[0].message.content == split.choices[0].message.content


def test_chat_stream(s):
    ask = dict(model=s.model, messages=CHAT, max_tokens=24, temperature=0)
    whole = s.client.chat.completions.create(**ask)
    chunks = list(s.client.chat.completions.create(**ask, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    assert all(c.usage is None for c in chunks)
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason]
    assert reasons == [whole.choices[0].finish_reason] and chunks[-1].choices[0].delta.content is None
    assert len(chunks) > 5, "it comes in pieces"


def test_chat_stream_usage(s):
    chunks = list(s.client.chat.completions.create(
        model=s.model, messages=CHAT, max_tokens=5, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens <= 5
    assert all(c.usage is None for c in chunks[:-1])


def test_stream_helper(s):
    with s.client.chat.completions.stream(model=s.model, messages=CHAT, stop="(", temperature=0) as stream:
        text = "".join(e.delta for e in stream if e.type == "content.delta")
        final = stream.get_final_completion()
    assert text and text == final.choices[0].message.content and final.choices[0].finish_reason == "stop"


def test_completions(s):
    r = s.client.completions.create(model=s.model, prompt="func main() {", max_tokens=8, temperature=0)
    assert r.object == "text_completion" and r.id.startswith("cmpl-") and r.choices[0].text
    default = s.client.completions.create(model=s.model, prompt="package", temperature=0, extra_body={"ignore_eos": True})
    assert default.usage.completion_tokens == 16 and default.choices[0].finish_reason == "length"
    echo = s.client.completions.create(model=s.model, prompt="func main() {", max_tokens=8, temperature=0, echo=True)
    assert echo.choices[0].text == "func main() {" + r.choices[0].text


def test_completion_prompts(s):
    many = s.client.completions.create(model=s.model, prompt=["package", "import"], max_tokens=4, temperature=0, n=2)
    assert [c.index for c in many.choices] == [0, 1, 2, 3]
    assert many.choices[0].text == many.choices[1].text and many.choices[2].text == many.choices[3].text
    request = urllib.request.Request(
        s.url + "/tokenize", json.dumps({"content": "package", "add_special": True}).encode(),
        {"Authorization": "Bearer " + KEY, "Content-Type": "application/json"})
    ids = json.load(urllib.request.urlopen(request))["tokens"]
    by_id = s.client.completions.create(model=s.model, prompt=ids, max_tokens=4, temperature=0)
    assert by_id.choices[0].text == many.choices[0].text
    lists = s.client.completions.create(model=s.model, prompt=[ids, ids], max_tokens=4, temperature=0)
    assert [c.text for c in lists.choices] == [by_id.choices[0].text] * 2


def test_completion_stream(s):
    ask = dict(model=s.model, prompt="func main() {", max_tokens=12, temperature=0)
    whole = s.client.completions.create(**ask)
    chunks = list(s.client.completions.create(**ask, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_logprobs(s):
    r = s.client.chat.completions.create(model=s.model, messages=CHAT, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    content = r.choices[0].logprobs.content
    joined = b"".join(bytes(t.bytes) for t in content).decode(errors="replace")
    assert joined == r.choices[0].message.content
    for t in content:
        assert t.logprob <= 0 and len(t.top_logprobs) == 3
        assert t.top_logprobs[0].token == t.token, "greedy takes the likeliest"
        assert [x.logprob for x in t.top_logprobs] == sorted((x.logprob for x in t.top_logprobs), reverse=True)
    streamed = []
    for c in s.client.chat.completions.create(
            model=s.model, messages=CHAT, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3, stream=True):
        if c.choices[0].logprobs:
            streamed += c.choices[0].logprobs.content
    assert [t.token for t in streamed] == [t.token for t in content]
    assert all(abs(a.logprob - b.logprob) < 1e-5 for a, b in zip(streamed, content))


def test_legacy_logprobs(s):
    r = s.client.completions.create(model=s.model, prompt="func main() {", max_tokens=6, temperature=0, logprobs=2)
    p = r.choices[0].logprobs
    assert len(p.tokens) == len(p.token_logprobs) == len(p.top_logprobs) == len(p.text_offset) > 0
    assert "".join(p.tokens) == r.choices[0].text
    for token, logprob, top, offset in zip(p.tokens, p.token_logprobs, p.top_logprobs, p.text_offset):
        assert abs(top[token] - logprob) < 1e-6 and 2 <= len(top) <= 3
        assert r.choices[0].text[offset:].startswith(token)


def test_stop(s):
    ask = dict(model=s.model, prompt="func main() {", max_tokens=24, temperature=0)
    text = s.client.completions.create(**ask).choices[0].text
    stop = text[6:11]
    cut = s.client.completions.create(**ask, stop=stop).choices[0]
    assert cut.text == text[:text.index(stop)] and cut.finish_reason == "stop" and cut.stop_reason == stop
    chunks = list(s.client.completions.create(**ask, stop=["never there", stop], stream=True))
    assert "".join(c.choices[0].text for c in chunks) == cut.text
    kept = s.client.completions.create(**ask, stop=stop, extra_body={"include_stop_str_in_output": True}).choices[0]
    assert kept.text == cut.text + stop


def test_n(s):
    ask = dict(model=s.model, messages=CHAT, max_tokens=12, temperature=1, n=4, seed=7)
    r = s.client.chat.completions.create(**ask)
    texts = [c.message.content for c in r.choices]
    assert [c.index for c in r.choices] == [0, 1, 2, 3] and len(set(texts)) > 1
    streamed = [""] * 4
    for c in s.client.chat.completions.create(**ask, stream=True):
        streamed[c.choices[0].index] += c.choices[0].delta.content or ""
    assert streamed == texts


def test_seed(s):
    def text(seed):
        r = s.client.chat.completions.create(model=s.model, messages=CHAT, max_tokens=16, temperature=1, seed=seed)
        return r.choices[0].message.content
    assert text(1) == text(1)
    assert len({text(i) for i in range(4)}) > 1
    assert len({text(None) for _ in range(4)}) > 1, "without a seed the text varies"


def test_cached_tokens(s):
    prompt = "// " + "the same words again and again " * 20
    ask = dict(model=s.model, prompt=prompt, max_tokens=1)
    s.client.completions.create(**ask)
    again = s.client.completions.create(**ask).usage
    assert again.prompt_tokens_details.cached_tokens > again.prompt_tokens // 2
    salted = s.client.completions.create(**ask, extra_body={"cache_salt": "another tenant"}).usage
    assert salted.prompt_tokens_details.cached_tokens == 0


def test_extra_fields(s):
    r = s.client.chat.completions.create(
        model=s.model, messages=CHAT, max_tokens=4, user="someone", store=False, metadata={"a": "b"}, top_p=0.9,
        presence_penalty=0.5, frequency_penalty=-0.5, logit_bias={"5": -100}, response_format={"type": "text"},
        extra_body={"top_k": 10, "min_p": 0.05, "repetition_penalty": 1.1, "min_tokens": 2, "ignore_eos": True})
    assert r.usage.completion_tokens == 4


def test_bad_requests(s):
    chat = s.client.chat.completions.create
    with raises(openai.BadRequestError, "invalid_value", "temperature", "between 0 and 2"):
        chat(model=s.model, messages=CHAT, temperature=3)
    with raises(openai.BadRequestError, "invalid_value", "messages"):
        chat(model=s.model, messages=[])
    with raises(openai.BadRequestError, "unsupported_parameter", "tools", "tools are not supported"):
        chat(model=s.model, messages=CHAT, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    with raises(openai.BadRequestError, "unsupported_parameter", None, "structured output"):
        chat(model=s.model, messages=CHAT, response_format={"type": "json_object"})
    with raises(openai.BadRequestError, "unknown_parameter", "no_such_field"):
        chat(model=s.model, messages=CHAT, extra_body={"no_such_field": 1})
    with raises(openai.BadRequestError, "context_length_exceeded", "messages", "tokens"):
        chat(model=s.model, messages=[{"role": "user", "content": "word " * 20000}])
    with raises(openai.BadRequestError, "context_length_exceeded", "prompt"):
        s.client.completions.create(model=s.model, prompt="x", max_tokens=10**6)
    with raises(openai.BadRequestError, "context_length_exceeded", "messages"):
        list(chat(model=s.model, messages=CHAT, max_tokens=10**6, stream=True))


def test_not_found(s):
    with raises(openai.NotFoundError, "model_not_found", "model"):
        s.client.chat.completions.create(model="another", messages=CHAT)
    with raises(openai.NotFoundError, "model_not_found"):
        s.client.models.retrieve("another")
    with raises(openai.NotFoundError, "route_not_found"):
        s.client.embeddings.create(model=s.model, input="x")


def test_authentication(s):
    with raises(openai.AuthenticationError, "invalid_api_key"):
        s.connect(api_key="wrong").models.list()
    with urllib.request.urlopen(s.url + "/health") as health:
        assert json.load(health) == {"status": "ok"}


def test_concurrent_streams(s):
    """Twenty streams at once give what each gives alone, and leave nothing behind."""
    def ask(i):
        stream = s.client.chat.completions.create(
            model=s.model, messages=[{"role": "user", "content": f"Get{i} returns the value of the flag."}],
            max_tokens=16, temperature=1, seed=i, stream=True)
        return "".join(c.choices[0].delta.content or "" for c in stream)
    alone = [ask(i) for i in range(20)]
    together = [None] * 20

    def run(i):
        together[i] = ask(i)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone
    s.idle()


def test_client_leaves(s):
    held = s.idle()
    stream = s.client.chat.completions.create(model=s.model, messages=CHAT, stream=True, extra_body={"ignore_eos": True})
    for _ in range(3):
        next(iter(stream))
    stream.close()
    assert s.idle() <= held, "blocks are still held"


def test_queue_full(s, binary):
    small = Server(binary, "--slots", "1", "--queue", "1")
    try:
        wide = small.client.chat.completions.create(model=small.model, messages=CHAT, max_tokens=4, n=4)
        assert len(wide.choices) == 4, "a request of more choices than slots and queue hold waits for itself"
        refused, answered = [], []

        def run():
            try:
                answered.append(small.client.chat.completions.create(
                    model=small.model, messages=CHAT, max_tokens=200, extra_body={"ignore_eos": True}))
            except openai.RateLimitError as e:
                assert e.code == "queue_full" and int(e.response.headers["retry-after"]) >= 1
                refused.append(e)
        threads = [threading.Thread(target=run) for _ in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert refused and len(answered) >= 2 and len(refused) + len(answered) == 12, (len(refused), len(answered))
        # With the client's own retries everybody is served in the end.
        patient = small.connect(max_retries=10)
        got = []
        threads = [threading.Thread(target=lambda: got.append(
            patient.chat.completions.create(model=small.model, messages=CHAT, max_tokens=8))) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(got) == 4
    finally:
        status = small.stop()
    assert status == 0, f"the server ended with {status}: {''.join(small.said)}"


def main():
    binary, words = sys.argv[1], sys.argv[2:]
    server = Server(binary)
    failed = ran = 0
    try:
        for name, test in list(globals().items()):
            if not name.startswith("test_") or words and not any(w in name for w in words):
                continue
            start, ran = time.time(), ran + 1
            try:
                test(server, binary) if test.__code__.co_argcount == 2 else test(server)
            except Exception:
                failed += 1
                print(f"FAIL {name}")
                traceback.print_exc(file=sys.stdout)
            else:
                print(f"ok   {name} ({time.time() - start:.2f} s)")
    finally:
        status = server.stop()
    if status != 0:
        failed += 1
        print(f"FAIL the server ended with {status}:\n{''.join(server.said)}")
    print(f"{ran - failed} of {ran} passed with openai {openai.__version__}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
