"""The judge's probability of yes, against a server in a process of its own."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adrpo.rewards.judge import VlmJudge, yes_probability
from adrpo.rewards.remote import encode_png
from support import reward_server
from support.remote_reward_calls import images, refusal
from support.reward_server import first_token, seen, start, stop


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    process, port = start(str(Path(reward_server.__file__)))
    yield f"http://127.0.0.1:{port}"
    stop(process)


def test_yes_is_the_sum_of_its_forms() -> None:
    forms = {
        " Yes": 0.3,
        "yes": 0.1,
        "YES": 0.05,
        "Ġyes": 0.05,
        "▁No": 0.2,
        "no": 0.05,
        "Yesterday": 0.2,
    }
    tokens = [(token, math.log(p)) for token, p in forms.items()]
    # (0.3 + 0.1 + 0.05 + 0.05) / (0.5 + 0.25); float rounding.
    assert yes_probability(tokens) == pytest.approx(2 / 3, rel=1e-12)
    assert yes_probability([("Yes", -0.1), ("maybe", -3)]) == 1
    assert yes_probability([("no", -0.1), ("maybe", -3)]) == 0
    assert yes_probability([("maybe", -0.1), ("", -3)]) is None
    # Servers write -9999 for a probability that is 0 in their arithmetic.
    assert yes_probability([("yes", -9999.0), ("no", -0.1)]) == pytest.approx(0, abs=1e-300)
    assert yes_probability([("yes", -9999.0), ("no", -9999.0)]) == 0.5


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_log_probability_that_is_no_number_gives_no_verdict(place: int) -> None:
    """Python's max passes over NaN, or keeps it, by its place."""
    tokens = [("yes", -0.5), ("Yes", -2.0), ("no", -1.0)]
    tokens[place] = (tokens[place][0], math.nan)
    assert yes_probability(tokens) is None


def test_minus_infinity_is_the_log_probability_of_0() -> None:
    assert yes_probability([("yes", -math.inf), ("no", -0.1)]) == 0
    assert yes_probability([("yes", -0.1), ("YES", -math.inf), ("no", -math.inf)]) == 1
    assert yes_probability([("yes", -math.inf), ("no", -math.inf)]) is None


def test_a_judge_asks_about_each_image(server: str) -> None:
    judge = VlmJudge(
        f"{server}/judge/v1/chat/completions",
        "some-vlm",
        question="{prompt}",
        top_logprobs=5,
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        concurrency=2,
    )
    answers = [
        [(" Yes", math.log(0.6)), ("no", math.log(0.2))],
        [("Maybe", -0.1), ("Well", -2.0)],
        [("NO", -0.1), ("a", -2.0)],
    ]
    pictures = images(3)
    values = judge(prompts=[json.dumps(first_token(top)) for top in answers], images=pictures)
    # 0.6 / (0.6 + 0.2); float rounding.
    assert values == [pytest.approx(0.75, rel=1e-12), None, 0.0]
    requests = seen(server, "/judge/v1/chat/completions")
    assert max(request["under_way"] for request in requests) <= 2
    sent = set[str]()
    for body in (request["body"] for request in requests):
        picture, text = body.pop("messages")[0]["content"]
        assert text["type"] == "text" and picture["type"] == "image_url"
        sent.add(picture["image_url"]["url"])
        assert body == {
            "model": "some-vlm",
            "max_tokens": 1,
            "temperature": 1.0,
            "logprobs": True,
            "top_logprobs": 5,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    assert sent == {f"data:image/png;base64,{encode_png(picture)}" for picture in pictures}


def test_braces_in_a_prompt_stay(server: str) -> None:
    url = f"{server}/judge-b"
    judge = VlmJudge(url, "m", question='Is it "{prompt}"? {x}')
    message = refusal(judge, prompts=["{0} {prompt}"], images=images(1))
    assert url in message and "log-probabilities" in message and "received None" in message
    (request,) = seen(server, "/judge-b")
    assert request["body"]["messages"][0]["content"][1]["text"] == 'Is it "{0} {prompt}"? {x}'


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": []},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"content": []}}]},
        {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "a"}]}]}}]},
        {
            "choices": [
                {"logprobs": {"content": [{"top_logprobs": [{"token": "a", "logprob": None}]}]}}
            ]
        },
    ],
)
def test_an_answer_without_log_probabilities_is_named(server: str, answer: Any) -> None:
    judge = VlmJudge(f"{server}/judge-n", "m", question="{prompt}")
    assert "top_logprobs" in refusal(judge, prompts=[json.dumps(answer)], images=images(1))


def test_a_judge_shares_the_transport(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-1")
    options: dict[str, Any] = {"model": "m", "backoff": 0.01, "retries": 1, "api_key_env": "MY_KEY"}
    samples: dict[str, Any] = {"prompts": ["a"], "images": images(1)}
    assert "status 400" in refusal(VlmJudge(f"{server}/refused-j", **options), **samples)
    assert "2 of 2" in refusal(VlmJudge(f"{server}/down-j", **options), **samples)
    assert seen(server, "/down-j")[0]["key"] == "Bearer sk-1"
    assert "'{prompt}'" in refusal(VlmJudge, url=server, model="m", question="Is it good?")
    assert "top_logprobs" in refusal(VlmJudge, url=server, model="m", top_logprobs=1)
