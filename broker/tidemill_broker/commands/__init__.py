"""What `tidemill broker COMMAND` does beside serving: each module has `main(argv) -> exit status`."""
