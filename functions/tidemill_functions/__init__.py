"""The local function runtime: requests in, handlers run, the Lambda API for functions."""
