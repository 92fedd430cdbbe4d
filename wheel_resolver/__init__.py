"""Which flash-attn wheel fits a cell of the matrix; if none does, what runs instead, and why."""
