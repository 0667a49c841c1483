-- A JSON request for wrk.
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"name": "Ann Example", "tags": ["one", "two", "three"]}'
