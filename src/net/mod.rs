//! Listeners: TLS, limits and the accept loop; knows nothing of what it serves.
