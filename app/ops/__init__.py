"""How the platform is: status, metrics, logs."""
