"""People's SQL: one SELECT over the contract, for one tenant."""
