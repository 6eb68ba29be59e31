"""What becomes of mappings from AWS here, and of mappings here elsewhere; knows no program but by its API."""
