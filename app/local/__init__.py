"""The local runtime under `.headwater/`, and what a server offers."""
