"""The embedded networks, one module each: how each is built, trained and exported."""
