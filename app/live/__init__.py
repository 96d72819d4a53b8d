"""Live push of alert events by WebSocket and server-sent events."""
