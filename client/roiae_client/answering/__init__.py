"""From a request to a signed reply: checked, answered, written into the ledger, and only then sent."""
