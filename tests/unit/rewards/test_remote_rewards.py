"""Rewards over HTTP, against servers in processes of their own."""

import asyncio
import base64
import io
import math
import pickle
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adrpo.errors import AdrpoError
from adrpo.rewards import Logistic, RewardTerm, build_reward, score
from adrpo.rewards.file_size import JpegSize
from adrpo.rewards.loading import BUILT_IN
from adrpo.rewards.remote import HttpReward
from adrpo.rewards.server import main, make_server
from support import reward_server
from support.remote_reward_calls import images, refusal
from support.reward_server import seen, start, stop

TEXTS = [f"{'p' * length}" for length in (3, 1, 4, 1, 5, 9, 2)]
LENGTHS = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    process, port = start(str(Path(reward_server.__file__)))
    yield f"http://127.0.0.1:{port}"
    stop(process)


def quick(url: str, **options: Any) -> HttpReward:
    return HttpReward(url, **{"backoff": 0.01, **options})


# What is sent


def test_images_are_sent_as_png_and_prompts_beside_them(server: str) -> None:
    pictures = images(3)
    pictures[1] = pictures[1].convert("RGBA")
    assert HttpReward(f"{server}/plain-i")(prompts=["a", "bb", "ccc"], images=pictures) == [1, 2, 3]
    (request,) = seen(server, "/plain-i")
    assert request["body"].keys() == {"prompts", "images"}
    assert request["key"] is None
    for sent, picture in zip(request["body"]["images"], pictures, strict=True):
        content = base64.b64decode(sent, validate=True)
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(content)
        received = Image.open(io.BytesIO(content))
        assert (received.format, received.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(received, picture.convert("RGB"))


def test_completions_and_named_columns_are_sent_and_no_others(server: str) -> None:
    reward = HttpReward(f"{server}/plain-t", columns=["answer"])
    turns = [[{"role": "assistant", "content": text}] for text in "xy"]
    values = reward(
        prompts=["a", "bb"],
        completions=turns,
        answer=[{"n": 1}, None],
        completion_ids=[[1], [2]],
        trainer_state=object(),
    )
    assert values == [1, 2]
    (request,) = seen(server, "/plain-t")
    assert request["body"] == {
        "prompts": ["a", "bb"],
        "completions": turns,
        "columns": {"answer": [{"n": 1}, None]},
    }
    samples: dict[str, Any] = {"prompts": ["a"], "completions": ["b"]}
    assert "column 'answer'" in refusal(reward, **samples)
    assert "JSON" in refusal(reward, **samples, answer=[object()])
    assert "JSON" in refusal(reward, **samples, answer=[math.nan])
    assert len(seen(server, "/plain-t")) == 1


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
def test_a_batch_is_split_and_comes_back_in_order(server: str, batch_size: int) -> None:
    path = f"/plain-{batch_size}"
    assert HttpReward(server + path, batch_size=batch_size)(prompts=TEXTS) == LENGTHS
    sizes = [len(request["body"]["prompts"]) for request in seen(server, path)]
    assert sum(sizes) == len(TEXTS)
    assert len(sizes) == math.ceil(len(TEXTS) / batch_size)
    assert max(sizes) <= batch_size


def test_no_samples_are_no_request(server: str) -> None:
    assert HttpReward(f"{server}/plain-0")(prompts=[], images=[]) == []
    assert seen(server, "/plain-0") == []


@pytest.mark.parametrize("concurrency", [1, 3])
def test_requests_under_way_are_bounded(server: str, concurrency: int) -> None:
    path = f"/busy-{concurrency}"
    reward = HttpReward(server + path, batch_size=1, concurrency=concurrency)
    assert reward(prompts=TEXTS) == LENGTHS
    # Reached, too: each request takes long enough for its neighbours to arrive.
    assert max(request["under_way"] for request in seen(server, path)) == concurrency


# What goes wrong


def test_two_503s_are_waited_out_with_growing_pauses(server: str) -> None:
    reward = HttpReward(f"{server}/flaky-w", backoff=0.1)
    assert reward(prompts=TEXTS) == LENGTHS
    times = [request["time"] for request in seen(server, "/flaky-w")]
    assert len(times) == 3
    # The pauses are 0.1 s and 0.2 s; what the requests take comes on top.
    assert times[1] - times[0] >= 0.1
    assert times[2] - times[1] >= 0.2


def test_the_last_attempt_s_status_is_named(server: str) -> None:
    message = refusal(quick(f"{server}/flaky-e", retries=1), prompts=TEXTS)
    assert f"{server}/flaky-e" in message
    assert "status 503" in message and "warming up" in message and "2 of 2" in message
    message = refusal(quick(f"{server}/down-a?token=secret", retries=2), prompts=TEXTS)
    assert "status 500" in message and "secret" not in message
    assert len(seen(server, "/down-a?token=secret")) == 3


def test_retry_after_is_waited_for(server: str) -> None:
    assert quick(f"{server}/limited-a")(prompts=TEXTS) == LENGTHS
    first, second = (request["time"] for request in seen(server, "/limited-a"))
    assert second - first >= 1


def test_a_slow_answer_is_a_timeout(server: str) -> None:
    message = refusal(quick(f"{server}/slow-a", timeout=0.2, retries=1), prompts=TEXTS)
    assert "timeout" in message and "2 of 2" in message
    assert len(seen(server, "/slow-a")) == 2


def test_a_trickle_is_a_timeout(server: str) -> None:
    begin = time.monotonic()
    message = refusal(quick(f"{server}/trickle-a", timeout=0.3, retries=0), prompts=TEXTS)
    assert "timeout" in message
    # The whole trickle lasts 1.5 s.
    assert time.monotonic() - begin < 1.4


def test_a_connection_that_breaks_is_tried_again(server: str) -> None:
    assert quick(f"{server}/dropped-a")(prompts=TEXTS) == LENGTHS
    assert len(seen(server, "/dropped-a")) == 2
    assert "IncompleteRead" in refusal(quick(f"{server}/cut-a", retries=1), prompts=TEXTS)
    assert len(seen(server, "/cut-a")) == 2


def test_a_refused_connection_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/reward"
    message = refusal(quick(url, retries=2), prompts=TEXTS)
    assert url in message and "ConnectionRefusedError" in message and "3 of 3" in message


@pytest.mark.parametrize(("kind", "status"), [("refused", 400), ("moved", 302)])
def test_other_statuses_fail_at_once(server: str, kind: str, status: int) -> None:
    message = refusal(quick(f"{server}/{kind}-a"), prompts=TEXTS)
    assert f"status {status}" in message and f"{server}/{kind}-a" in message
    assert len(seen(server, f"/{kind}-a")) == 1


def test_the_first_failure_ends_the_batch(server: str) -> None:
    refusal(quick(f"{server}/refused-b", batch_size=1, concurrency=1), prompts=["p"] * 40)
    # The one that failed and those that had begun before its failure was seen.
    assert len(seen(server, "/refused-b")) < 20


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ("[1, 2.5]", [1.0, 2.5]),
        ("[null, -3]", [None, -3.0]),
        ("[1]", "received 1 of them"),
        ("[1, 2, 3]", "received 3 of them"),
        ('[1, "2"]', "received '2'"),
        ("[1, true]", "received True"),
        ("[1, [2]]", "received [2]"),
        ("[1, NaN]", "NaN is not JSON"),
        ("[1, 1e999]", "received inf"),
        ("null", "received {'rewards': None}"),
    ],
)
def test_rewards_are_numbers_or_null_one_a_sample(
    server: str, rewards: str, expected: list[float | None] | str
) -> None:
    reward = HttpReward(f"{server}/given", columns=["answer"])
    samples: dict[str, Any] = {
        "prompts": ["a", "b"],
        "completions": ["x", "y"],
        "answer": [f'{{"rewards": {rewards}}}'] * 2,
    }
    if isinstance(expected, list):
        assert reward(**samples) == expected
    else:
        message = refusal(reward, **samples)
        assert expected in message and "/given" in message


def test_other_answers_are_named(server: str) -> None:
    assert "7 'rewards'" in refusal(HttpReward(f"{server}/short-a"), prompts=TEXTS)
    assert "in JSON" in refusal(HttpReward(f"{server}/malformed-a"), prompts=TEXTS)
    assert len(seen(server, "/malformed-a")) == 1
    reward = HttpReward(f"{server}/given", columns=["answer"])
    assert "received [1.0]" in refusal(reward, prompts=["a"], answer=["[1.0]"])


def test_a_failing_server_ends_the_run_and_does_not_unscore_it(server: str) -> None:
    term = RewardTerm("http_reward", 1.0, HttpReward(f"{server}/short-b"))
    with pytest.raises(AdrpoError, match="/short-b"):
        score([term], prompts=["a", "b"], images=images(2))


@pytest.mark.parametrize(
    "options",
    [
        {"url": "file:/etc/passwd"},
        {"url": "localhost:8000"},
        {"url": "http://user:hidden@host/"},
        {"timeout": 0},
        {"retries": -1},
        {"backoff": -1},
        {"concurrency": 0},
        {"batch_size": 0},
    ],
)
def test_settings_out_of_range(options: dict[str, Any]) -> None:
    message = refusal(HttpReward, **{"url": "http://host/", **options})
    assert "expected" in message and "hidden" not in message


# The key


def test_the_key_is_sent_and_appears_nowhere(
    server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret\n")
    reward = quick(f"{server}/refused-k", api_key_env="MY_KEY")
    # The server repeats the key in its answer.
    message = refusal(reward, prompts=TEXTS)
    assert "wrong key Bearer ***" in message
    assert seen(server, "/refused-k")[0]["key"] == "Bearer sk-very-secret"
    state = pickle.dumps(vars(vars(reward)["_client"])).decode("latin-1")
    assert "secret" not in message + state + "".join(capfd.readouterr())


def test_a_key_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    assert "'MY_KEY'" in refusal(HttpReward, url="http://host/", api_key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", "sécret\nX: y")
    message = refusal(HttpReward, url="http://host/", api_key_env="MY_KEY")
    assert "'MY_KEY'" in message and "cret" not in message.replace("secret", "")


# The server that the package has


def test_a_served_reward_gives_what_it_gives_here() -> None:
    process, line = start(
        *("-m", "adrpo.rewards.server", "jpeg_size", "--port", "0", "--options", '{"quality": 50}')
    )
    try:
        name, _, url = line.partition(" at ")
        assert name == "jpeg_size"
        pictures = images(5)
        remote = HttpReward(url, batch_size=2)(prompts=["p"] * 5, images=pictures)
        assert remote == JpegSize(quality=50)(["p"] * 5, pictures)
        message = refusal(quick(url, retries=0), prompts=["p"])
        assert "status 500" in message and "TypeError" in message and "'images'" in message
    finally:
        stop(process)


def test_a_served_reward_gets_completions_and_columns() -> None:
    def answers(
        prompts: list[str], completions: list[str], answer: list[str]
    ) -> list[float | None]:
        known = {"right": 1.0, "unknown": None, "broken": math.nan}
        return [known.get(text, float(text == answer[i])) for i, text in enumerate(completions)]

    with make_server(answers, port=0) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        reward = HttpReward(f"http://127.0.0.1:{served.server_port}/any", columns=["answer"])
        texts = ["right", "unknown", "broken", "b", "c"]
        assert reward(prompts=["p"] * 5, completions=texts, answer=["b"] * 5) == [
            *(1.0, None, None, 1.0, 0.0)
        ]
        served.shutdown()


def test_a_coroutine_function_is_served() -> None:
    async def lengths(prompts: list[str], completions: list[str]) -> list[float | None]:
        await asyncio.sleep(0)
        if "broken" in completions:
            raise RuntimeError("no such word")
        return [float(len(completion)) for completion in completions]

    with make_server(lengths, port=0) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{served.server_port}/any"
        assert HttpReward(url)(prompts=["p"] * 2, completions=["a", "bb"]) == [1.0, 2.0]
        message = refusal(quick(url, retries=0), prompts=["p"], completions=["broken"])
        assert "status 500" in message and "RuntimeError: no such word" in message
        served.shutdown()


def test_a_reward_that_can_not_be_served_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["jpeg_siz"])
    assert caught.value.code == 2
    assert "did you mean 'jpeg_size'" in capsys.readouterr().err


# Names


@dataclass(frozen=True)
class Term:
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    logistic: Logistic | None = None
    timeout: float | None = None


def test_short_names_and_closed_options(server: str) -> None:
    (term,) = build_reward([Term("http_reward", {"url": f"{server}/plain-n"})], "cpu")
    assert term.name == "http_reward"
    assert term.function(prompts=TEXTS, images=images(len(TEXTS)), target=[1] * 7) == LENGTHS
    for name, options, hint in [
        ("http_reward", {"url": server, "time_out": 3}, "did you mean 'timeout'"),
        ("vlm_judge", {"url": server, "modell": "m"}, "did you mean 'model'"),
        ("numeric_answer", {"tolerence": 1}, "did you mean 'tolerance'"),
        ("http_rewards", {}, "did you mean 'http_reward'"),
    ]:
        assert hint in refusal(build_reward, terms=[Term(name, options)], device="cpu")
    needed = {"length": {"target": 3}, "keywords": {"required": ["b"]}}
    text = ["multiple_choice", "exact_answer", "numeric_answer", "format", "length", "keywords"]
    built = build_reward([Term(name, needed.get(name, {})) for name in text], "cpu")
    assert [one.name for one in built] == text
    assert {"reasoning_gym", "reward_model"} <= BUILT_IN.keys()
