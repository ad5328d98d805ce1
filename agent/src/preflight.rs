//! What on this host would get in our way.
