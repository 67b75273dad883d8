"""The Hub as a publication meets it: names of repositories, the token, the upload."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adrpo.errors import AdrpoError, in_a_line

LOGIN = "set HF_TOKEN to one that may write, or log in by 'hf auth login'"


def check_name(name: str, option: str = "--repo", *, needs_owner: bool = False) -> None:
    """Raise AdrpoError where ``name``, the value of ``option``, is no name of a repository:
    "owner/name", or "name" for one of the user's own unless it ``needs_owner``."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    form = "owner/name" if needs_owner else "owner/name or name"
    try:
        validate_repo_id(name)
        if needs_owner and "/" not in name:
            raise HFValidationError("no owner")
    except HFValidationError:
        raise AdrpoError(
            f"{option}: expected the name of a repository on the Hub, {form}, of letters, digits, "
            f"'-', '_' and '.'; received {name[:100]!r}"
        ) from None


def check_token() -> str:
    """The user's token of the Hub, from the environment or huggingface_hub's own login; AdrpoError
    where there is none."""
    from huggingface_hub import get_token

    found = get_token()
    if not found:
        raise AdrpoError(f"publish: expected a token of the Hub; received none; {LOGIN}")
    return found


def upload(folder: Path, repo: str, *, private: bool = False, message: str) -> str:
    """Upload the files of ``folder`` in commits with ``message`` and return the repository's URL.

    Args:
        folder: the whole content; files of these names in the repository are replaced, and others
            left as they are.
        repo: a name of ``check_name``; the repository is made where it is missing.
        private: whether it must be private.

    Raises:
        AdrpoError: no token; the Hub can't be reached or refuses; or ``private`` of a repository
            that is there already and public, in which case nothing is uploaded.
    """
    from huggingface_hub import HfApi

    key = check_token()
    api = HfApi(token=key)
    with _asking(f"{api.endpoint}, for {repo}", key):
        made = api.create_repo(repo, private=True if private else None, exist_ok=True)
        name = made.repo_id
        is_private = api.model_info(name).private if private else True
    if not is_private:
        raise AdrpoError(
            f"--private: expected a private repository; received {name}, which is there and "
            f"public; make it private on its page, or name another by --repo"
        )
    with _asking(f"{api.endpoint}, for {name}", key):
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    return str(made)


@contextmanager
def _asking(what: str, key: str) -> Iterator[None]:
    """A block in which the Hub is asked; what huggingface_hub raises is an AdrpoError without the
    token ``key``."""
    try:
        yield
    except Exception as error:
        # Of a worker's error the cause says more: it holds what the server answered.
        reason = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        status = getattr(getattr(reason, "response", None), "status_code", None)
        way = (
            LOGIN if status in (401, 403) else "try again, or look at https://status.huggingface.co"
        )
        line = in_a_line(reason).replace(key, "***")
        raise AdrpoError(
            f"publish: expected the Hub to take the upload ({what}); received {line}; {way}"
        ) from error
