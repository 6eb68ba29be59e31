"""Handlers to copy; a package, so that `tidemill demo` finds its own in an installed wheel."""
