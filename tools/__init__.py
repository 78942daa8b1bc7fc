"""The workshop: makes the notebooks from their text, builds the site, runs the tests."""
