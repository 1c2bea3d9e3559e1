"""The methods that Pinpoint is compared with: published ways to edit with a frozen model, one a module."""
