import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing a test does reaches the user's caches."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SAMPTAG_CACHE", str(folder))
    return folder
