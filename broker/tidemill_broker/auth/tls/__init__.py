"""TLS: contexts for the listeners, certificates and their names, a private certificate authority."""
