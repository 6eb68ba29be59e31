"""Goes on the path of a handler's process, where awslambdaric finds its module `runtime_client`."""
