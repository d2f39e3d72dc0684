"""Who may call what: roles, bindings, and the gate that checks each call against them."""
