"""The editing methods behind one registry, one file a method."""
