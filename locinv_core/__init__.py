"""LocInv: inversion, tokens, attention, editing, as plain functions on tensors."""
