//! A configured CA with its token.
