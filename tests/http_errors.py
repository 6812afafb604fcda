"""Errors as a SuperLink's answers raise them."""

import httpx


def http_error(status):
    request = httpx.Request("POST", "http://superlink/pull")
    return httpx.HTTPStatusError(
        f"error {status}", request=request, response=httpx.Response(status, request=request)
    )
