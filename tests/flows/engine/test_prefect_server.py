"""A configured Prefect server that does not respond is an error."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.engine.prefect_server
from flows.engine.prefect_server import prefect_server
from matting.errors import InputError


def test_a_configured_server_that_does_not_respond_is_an_error(monkeypatch):
    monkeypatch.setattr(flows.engine.prefect_server, "CONFIGURED_TIMEOUT_S", 0.5)
    url = "http://127.0.0.1:9/api"
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(InputError, match=rf"does not respond: got no response from {url}, expected"),
        prefect_server(),
    ):
        pytest.fail("there is no server")
